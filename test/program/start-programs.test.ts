import { describe, expect, it } from "vitest";
import { type StartedProgram, startPrograms } from "../../src/program/start-programs.js";
import { elf, library, program } from "./elf-builder.js";
import { bytes, type MadeFile, madeImage } from "./made-image.js";

const base: Record<string, MadeFile> = {
  "/lib64/ld-linux-x86-64.so.2": library("ld-linux-x86-64.so.2"),
  "/lib64/libc.so.6": library("libc.so.6"),
  "/bin/sh": { link: "dash" },
  "/bin/dash": program(["libc.so.6"]),
  "/usr/bin/env": program(["libc.so.6"]),
  "/usr/bin/python3": program(["libc.so.6"]),
  "/usr/bin/node": program(["libc.so.6"]),
  "/usr/bin/tini": elf({ dynamic: false }),
  "/usr/bin/gosu": elf({ dynamic: false }),
};

async function started(files: Record<string, MadeFile>, ...args: string[]): Promise<StartedProgram[]> {
  const { image } = madeImage({ ...base, ...files });
  const command = { args: args.map(bytes), env: [bytes("PATH=/usr/bin:/bin")], directory: bytes("/app") };
  return await startPrograms(image(), command);
}

/** Role, kind and path or reason of each step. */
const steps = (programs: readonly StartedProgram[]) =>
  programs.map((one) => `${one.role} ${one.kind} ${one.kind === "missing" ? one.why : one.path}`);

describe("what a command line starts", () => {
  it.each<[string, Record<string, MadeFile>, string[], string[]]>([
    ["a program", {}, ["python3", "-c", "pass"], ["command program /usr/bin/python3"]],
    [
      "a script, its interpreter, and what env finds",
      { "/app/main": "#!/usr/bin/env -S python3 -u\n" },
      ["./main"],
      ["command script /app/./main", "interpreter program /usr/bin/env", "env program /usr/bin/python3"],
    ],
    [
      "the shell form",
      {},
      ["/bin/sh", "-c", "cd /app && exec node server.js"],
      ["command program /bin/sh", "shell program /usr/bin/node"],
    ],
    [
      "an entrypoint in front of a command",
      { "/usr/bin/docker-entrypoint.sh": '#!/bin/sh\nexec "$@"\n' },
      ["docker-entrypoint.sh", "node", "server.js"],
      [
        "command script /usr/bin/docker-entrypoint.sh",
        "interpreter program /bin/sh",
        "argument program /usr/bin/node",
      ],
    ],
    [
      "an init, and the shell it runs, and what that runs",
      {},
      ["tini", "-g", "--", "sh", "-ec", "python3 main.py"],
      ["command program /usr/bin/tini", "wrapped program /bin/sh", "shell program /usr/bin/python3"],
    ],
    [
      "a wrapper with a word of its own",
      {},
      ["gosu", "nobody", "node"],
      ["command program /usr/bin/gosu", "wrapped program /usr/bin/node"],
    ],
    [
      "a script that a script interprets",
      { "/app/a": "#!/app/b\n", "/app/b": "#!/bin/sh\n" },
      ["/app/a"],
      ["command script /app/a", "interpreter script /app/b", "interpreter program /bin/sh"],
    ],
    ["nothing, where the image has no such file", {}, ["missing"], ["command missing ENOENT"]],
    [
      "nothing, where a shell's text names what may be a builtin",
      {},
      ["sh", "-c", "umask 022"],
      ["command program /bin/sh"],
    ],
    [
      "a script without its interpreter",
      { "/app/a": "#!/usr/bin/perl -w\n" },
      ["/app/a"],
      ["command script /app/a", "interpreter missing ENOENT"],
    ],
    ["a text", { "/app/a": "echo hello\n" }, ["/app/a"], ["command unusable /app/a"]],
    ["nothing at all", {}, [], []],
  ])("%s", async (_, files, args, expected) => {
    expect(steps(await started(files, ...args))).toEqual(expected);
  });

  it("hands a script to its interpreter as the kernel does", async () => {
    const programs = await started({ "/app/main": "#!/usr/bin/env python3\n" }, "/app/main", "--port", "80");
    expect(programs.map(({ command }) => command.args)).toEqual([
      ["/app/main", "--port", "80"],
      ["/usr/bin/env", "python3", "/app/main", "--port", "80"],
      ["python3", "/app/main", "--port", "80"],
    ]);
  });

  it("tells a line that ends as on Windows", async () => {
    const programs = await started({ "/app/main": "#!/usr/bin/python3\r\n" }, "/app/main");
    expect(programs).toMatchObject([
      { kind: "script", line: { carriageReturn: true } },
      { kind: "missing", why: "ENOENT", searched: ["/usr/bin/python3\r"] },
    ]);
  });

  it("ends where scripts interpret each other without end, as execve(2) does", async () => {
    const programs = await started({ "/app/a": "#!/app/a\n" }, "/app/a");
    expect(programs).toHaveLength(6);
    expect(programs.at(-1)).toMatchObject({
      kind: "unusable",
      found: expect.stringMatching(/more than 5 scripts/),
    });
    const around = await started({ "/app/b": "#!/usr/bin/env /app/b\n" }, "/app/b");
    expect(around.length).toBeLessThanOrEqual(16);
  });

  it("tells a program whose loader is missing from one whose libraries are", async () => {
    const [noLoader] = await started(
      { "/app/a": program([], { interpreter: "/lib/ld-musl-x86_64.so.1" }) },
      "/app/a",
    );
    expect(noLoader).toMatchObject({ kind: "program", loader: { why: "ENOENT" }, libraries: undefined });
    const [noLibrary] = await started({ "/app/a": program(["libc.so.6", "libno.so"]) }, "/app/a");
    expect(noLibrary).toMatchObject({
      kind: "program",
      loader: { file: { path: "/lib64/ld-linux-x86-64.so.2" } },
      libraries: { loaded: [{ name: "libc.so.6" }], missing: [{ name: "libno.so", neededBy: "/app/a" }] },
    });
  });
});
