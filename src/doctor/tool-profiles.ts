/** Programs that people who start containers count on, by what they do with them. */
export const toolProfiles = {
  /** Somebody types, or gives a command line to a shell. */
  shell: ["sh"],
  /** Files are put into a running container through its own tools. */
  upload: ["sh", "tar", "find", "chmod", "cat"],
  /** Job containers of GitHub Actions: kept alive by tail, steps run by sh, actions and caches unpacked by tar. */
  "github-actions": ["sh", "tar", "find", "chmod", "cat", "env", "tail"],
} as const;

export type ToolProfile = keyof typeof toolProfiles;

export const toolProfileNames = Object.keys(toolProfiles) as ToolProfile[];

/** Profiles whose users write to /tmp and to the working directory. */
export const writingProfiles: readonly ToolProfile[] = ["upload", "github-actions"];
