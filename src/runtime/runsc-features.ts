/**
 * What the installed runsc can do, from what it prints of its flags: Debian's is from 2022-12, gVisor's own releases come weekly, and
 * neither says by its version which flags it has.
 *
 * The overlay of its own over the root filesystem was `--overlay` (a boolean, everything in memory), then `--overlay2={mount}:{medium}`, whose medium
 * was `memory` or a directory at first, and later `memory`, `self` (a file in the rootfs) or `dir=DIR`. The later releases have it on by
 * default. Source: runsc/config/flags.go and config.go of google/gvisor.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const execute = promisify(execFile);

export interface RunscFeatures {
  /** `overlay`: a boolean; `overlay2-directory`: memory or a plain directory; `overlay2-self`: memory, self or dir=DIR. */
  readonly overlay: "overlay" | "overlay2-directory" | "overlay2-self";
  readonly platforms: readonly string[];
}

/** Where runsc keeps what a container writes to its root filesystem. */
export type RunscOverlay =
  /** In the root filesystem itself. */
  | { readonly kind: "none" }
  /** In a file without a name in `directory`, or in memory where runsc cannot do that. */
  | { readonly kind: "own"; readonly directory: string };

/** Rejects as execFile does where runsc cannot be run. */
export async function readRunscFeatures(): Promise<RunscFeatures> {
  const { stdout, stderr } = await execute("runsc", ["flags"]);
  return parseRunscFlags(stdout + stderr);
}

/** Reads what `runsc flags` prints: `  -name type`, and its description in the lines below. */
export function parseRunscFlags(text: string): RunscFeatures {
  const flags = new Map<string, string>();
  for (const part of text.split(/^ {2}-(?=\S)/m)) {
    const name = /^[\w-]+/.exec(part)?.[0];
    if (name !== undefined) flags.set(name, part.slice(name.length));
  }
  const overlay2 = flags.get("overlay2");
  const platform = flags.get("platform") ?? "";
  return {
    overlay:
      overlay2 === undefined ? "overlay" : /\bself\b/.test(overlay2) ? "overlay2-self" : "overlay2-directory",
    platforms: ["ptrace", "kvm", "systrap"].filter((name) => platform.includes(name)),
  };
}

export function runscOverlayFlag(features: RunscFeatures, overlay: RunscOverlay): string {
  const own = overlay.kind === "own" ? overlay.directory : undefined;
  switch (features.overlay) {
    case "overlay":
      return `--overlay=${own !== undefined}`;
    case "overlay2-directory":
      return own === undefined ? "--overlay2=none" : `--overlay2=root:${own}`;
    case "overlay2-self":
      // Not root:self: the root filesystem may be the image, which nothing can be written to.
      return own === undefined ? "--overlay2=none" : `--overlay2=root:dir=${own}`;
  }
}
