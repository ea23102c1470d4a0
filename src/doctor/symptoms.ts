/**
 * What a failed start looks like from outside: words of the kernel, of runtimes (runc, crun, runsc), loaders and shells, and exit codes; and which checks
 * may find the reason of each.
 *
 * Words are looked for before exit codes, and more particular ones first. Sources: runc's libcontainer, crun's linux.c, gVisor's runsc, glibc's
 * elf/dl-load.c and dl-version.c, musl's ldso/dynlink.c, dash, bash, busybox, coreutils' env; bash(1) for exit codes.
 */

export interface Symptom {
  readonly id: string;
  /** Undefined: it is told by the exit code. */
  readonly words?: RegExp;
  readonly exitCodes?: readonly number[];
  /** Checks, in the order in which they would come to it. */
  readonly checks: readonly string[];
  readonly meaning: string;
  /** It may end otherwise when it is done once more, without anything changed. Default: it cannot. */
  readonly mayPass?: boolean;
}

const starts = [
  "entrypoint",
  "executable",
  "arch-program",
  "arch",
  "format",
  "script",
  "interp",
  "env",
  "wrapped",
];

export const symptoms: readonly Symptom[] = [
  {
    id: "symbol-version",
    words: /version [`'‘].+['’] not found/,
    checks: ["symbol-versions", "libraries"],
    meaning: "a program was built against a newer library than the one it found",
  },
  {
    id: "symbol",
    words: /Error relocating .*: symbol not found|undefined symbol|symbol lookup error/,
    checks: ["symbol-versions", "libraries", "interp"],
    meaning: "a library that was found is not the one that the program was built against",
  },
  {
    id: "library",
    words: /error while loading shared libraries|Error loading shared library|cannot open shared object file/,
    checks: ["libraries", "arch-program", "interp"],
    meaning: "the loader did not find a library, or not one that fits",
  },
  {
    id: "carriage-return",
    words:
      /\$'\\r': command not found|\^M: bad interpreter|Illegal option -\s*\r?$|bad interpreter: No such file|\\r['"]?: /m,
    checks: ["script", "env"],
    meaning: "a script has line ends of Windows, or names an interpreter that is not there",
  },
  {
    id: "user",
    words:
      /unable to find (user|groups?)|no matching entries in (passwd|group) file|cannot run as |no users? found|unknown user/i,
    checks: ["user"],
    meaning: "the user or the group is not among the image's accounts",
  },
  {
    id: "deleted-directory",
    words: /wandered into deleted directory/,
    checks: ["link-counts", "directory", "mount"],
    meaning: "the runtime found a directory without links on its way into the rootfs",
  },
  {
    id: "kernel-mount",
    words: /must be mounted on ordinary directory/,
    checks: ["directory"],
    meaning: "the place of /proc or /sys in the image is no directory",
  },
  {
    id: "seed",
    words: /cannot be made in the upper dir/,
    checks: ["directory", "mount"],
    meaning: "a directory that the container needs could not be made",
  },
  {
    id: "mount",
    words:
      /error mounting|mounting .* to rootfs|mount .*: (not a directory|no such file)|cannot stat .*mount/i,
    checks: ["mount", "mount-target", "directory"],
    meaning: "a mount could not be made",
  },
  {
    id: "working-directory",
    words: /chdir to cwd|cwd .*(not a directory|no such|permission)|mkdir .*: not a directory|getwd|getcwd/i,
    checks: ["directory", "workdir"],
    meaning: "the working directory could not be entered",
  },
  {
    id: "not-found-on-path",
    words:
      /executable file .*not found in \$PATH|error finding executable|executable found relative to current directory/,
    checks: ["entrypoint", "executable"],
    meaning: "the runtime did not find the command in any directory of PATH",
  },
  {
    id: "format",
    words: /exec format error/i,
    checks: ["arch-program", "format", "arch", "script", "arch-shell"],
    meaning: "the kernel does not know what kind of file it is, or it is for another processor",
  },
  {
    id: "loader-format",
    words: /accessing a corrupted shared library|ELIBBAD|exec .*input\/output error/i,
    checks: ["interp"],
    meaning: "a program's ELF interpreter is no loader of its kind",
  },
  {
    id: "env-target",
    words: /env: (can't execute )?[‘'"`]?[^\n]*?['’"`]?: (No such file or directory|Permission denied)/,
    checks: ["env", "wrapped", "script", "interp"],
    meaning: "env(1) was to start a program that it did not find",
  },
  {
    id: "loop",
    // The second is gVisor's.
    words: /too many levels of symbolic links|too many symbolic links encountered/i,
    checks: ["entrypoint", "script", "interp", "mount", "directory"],
    meaning: "symlinks lead in a circle, or scripts interpret each other",
  },
  {
    id: "name-too-long",
    words: /file name too long/i,
    checks: ["entrypoint", "script", "interp", "env", "wrapped"],
    meaning: "a name has more than 255 bytes, or a path more than 4095",
  },
  {
    id: "tool",
    words: /(^|[:\s])[\w.+/-]+: (command )?not found|command not found/m,
    checks: ["tool", "wrapped", "env", "entrypoint", "interp"],
    meaning: "a shell was to start a program that it did not find",
  },
  {
    id: "certificates",
    words:
      /x509: certificate signed by unknown authority|certificate verify failed|unable to get local issuer|CERTIFICATE_VERIFY_FAILED/i,
    checks: ["certificates"],
    meaning: "there are no certificates of authorities that would vouch for the other side",
  },
  {
    id: "exec-denied",
    // crun's for a directory: "open executable: Operation not permitted".
    words:
      /exec:? .*(permission denied|is a directory)|(failed to load .*|open executable: )permission denied|open executable: operation not permitted|cannot execute/i,
    checks: ["executable", "entrypoint", "interp", "script"],
    meaning: "the user may not execute the command, or what interprets it",
  },
  {
    id: "exec-missing",
    words:
      /(exec|execve|exec user process|failed to load|stat|start container process|open executable).*no such file or directory/i,
    checks: ["interp", "script", "entrypoint", "directory", "mount"],
    meaning:
      "a file is missing that is needed to start the command: itself, its ELF interpreter, or its script's",
  },
  {
    id: "denied",
    words: /permission denied/i,
    checks: ["executable", "script", "tmp", "workdir", "home", "interp"],
    meaning: "the user may not do what the program tried",
  },
  {
    id: "not-a-directory",
    words: /not a directory/i,
    checks: ["directory", "mount", "entrypoint", "interp"],
    meaning: "a path goes through something that is no directory",
  },
  {
    id: "missing",
    words: /no such file or directory/i,
    checks: ["interp", "script", "entrypoint", "env", "wrapped", "directory", "home", "tool", "mount"],
    meaning: "a file is missing, or what is needed to start it",
  },
  {
    id: "no-command",
    words: /has no command/,
    checks: ["entrypoint"],
    meaning: "neither the image nor the caller names a command",
  },
  {
    id: "killed",
    exitCodes: [137],
    words: /out of memory|oom[- ]?kill/i,
    checks: [],
    meaning:
      "it was killed (SIGKILL): by a memory limit, for which see memory.events or memory.oom_control of its cgroup and the kernel's log, or by somebody",
    mayPass: true,
  },
  {
    id: "segmentation-fault",
    exitCodes: [139],
    words: /segmentation fault|SIGSEGV/i,
    checks: ["arch-program", "format", "symbol-versions", "libraries", "interp"],
    meaning: "it crashed (SIGSEGV)",
    mayPass: true,
  },
  {
    id: "bus-error",
    exitCodes: [135],
    words: /bus error|SIGBUS/i,
    checks: ["format", "interp", "libraries"],
    meaning: "it crashed (SIGBUS): a file ends before what was mapped of it, or its bytes could not be read",
    mayPass: true,
  },
  {
    id: "illegal-instruction",
    exitCodes: [132],
    words: /illegal instruction/i,
    checks: ["arch-program", "arch"],
    meaning: "it has instructions that this processor does not know (SIGILL): it was built for a newer one",
  },
  {
    id: "aborted",
    exitCodes: [134],
    checks: ["symbol-versions", "libraries"],
    meaning: "it ended itself (SIGABRT); its own words say why",
    mayPass: true,
  },
  {
    id: "terminated",
    exitCodes: [130, 143],
    checks: [],
    meaning: "it was asked to end (SIGINT or SIGTERM)",
    mayPass: true,
  },
  {
    id: "not-executable",
    exitCodes: [126],
    checks: ["executable", "format", "arch-program", "interp", "script", "env", "wrapped", "entrypoint"],
    meaning: "the command was found and could not be executed",
  },
  {
    id: "not-found",
    exitCodes: [127],
    checks: ["entrypoint", "env", "wrapped", "libraries", "interp", "script", "tool"],
    meaning: "a command was not found, or a loader did not find a library",
  },
  {
    id: "not-started",
    exitCodes: [1, 2, 125, 255],
    checks: ["user", "directory", "mount-target", "mount", ...starts, "libraries", "symbol-versions"],
    meaning: "it failed; where the program itself ran, its own words say why",
    mayPass: true,
  },
];

/** Those that a failure shows, the most telling first. */
export function symptomsOf(output: string, exitCode: number | undefined): readonly Symptom[] {
  const told = symptoms.filter(({ words }) => words?.test(output));
  const coded = symptoms.filter((one) => exitCode !== undefined && one.exitCodes?.includes(exitCode));
  return [...new Set([...told, ...coded])];
}

/** Names of programs that a shell did not find, and of libraries that a loader did not: to be looked for by name. */
export function namedInOutput(output: string): { readonly tools: string[]; readonly libraries: string[] } {
  const all = (pattern: RegExp) => [...new Set([...output.matchAll(pattern)].map((match) => match[1]!))];
  const tools = all(/(?:^|[:\s])([\w.+-]{1,64}): (?:command )?not found/gm);
  const libraries = all(/(?:shared libraries: |shared library )([\w.+-]{1,128}?)[:\s]/g);
  return { tools: tools.slice(0, 8), libraries: libraries.slice(0, 8) };
}
