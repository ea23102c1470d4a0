/**
 * The doctor's verdict beside what runc does, for many ways to start one image: what it fails must not start, with the words that it predicts, and what it does not
 * fail must start. Programs print a word when they run, so that whether one has started is not a matter of exit codes.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { ExaminedCheck } from "../../src/doctor/examine.js";
import { elf } from "../program/elf-builder.js";
import type { TarEntrySpec } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";
import { busyboxTree, type Fixture, glibcTree, hostFile, makeFixture } from "./fixture-image.js";

/** Without any library: write(1, "STARTED\n", 8), exit(0). */
const source = `void _start(void) {
  static const char word[] = "STARTED\\n";
#ifdef __x86_64__
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(1L), "D"(1L), "S"(word), "d"(8L) : "rcx", "r11", "memory");
  __asm__ volatile("syscall" : "=a"(result) : "a"(60L), "D"(0L) : "rcx", "r11", "memory");
#else
  __asm__ volatile("mov %0,%%ecx; mov $4,%%eax; mov $1,%%ebx; mov $8,%%edx; int $0x80; mov $1,%%eax; xor %%ebx,%%ebx; int $0x80" ::"r"(word) : "eax", "ebx", "ecx", "edx");
#endif
}`;

type Start = readonly [args: string | readonly string[], ...flags: string[]];
const script = "\necho STARTED\n";

function makeTree(dir: string): TarEntrySpec[] {
  const build = (...flags: string[]) => {
    const output = path.join(dir, "built");
    execFileSync("gcc", ["-O1", "-nostdlib", "-o", output, "-x", "c", "-", ...flags], { input: source });
    return readFileSync(output);
  };
  const program = build("-static");
  const interpretedBy = (name: string) => build("-pie", `-Wl,--dynamic-linker=${name}`);
  const edited = (offset: number, value: number) => {
    const bytes = Buffer.from(program);
    bytes.writeUInt16LE(value, offset);
    return bytes;
  };
  const named = interpretedBy("/lib64/own.so");
  const nameless = Buffer.from(named).fill(
    0,
    named.indexOf("/lib64/own.so"),
    named.indexOf("/lib64/own.so") + 13,
  );
  const modes: Record<string, Partial<TarEntrySpec>> = {
    "p/0111": { mode: 0o111 },
    "p/0100": { mode: 0o100 },
    "p/own": { mode: 0o611, uid: 1000 },
    "p/group": { mode: 0o701, gid: 1000 },
    "p/extra": { mode: 0o750, gid: 50 },
    "p/setuid": { mode: 0o4755 },
    "d3/prog": { mode: 0o644 },
    "s/0111": { mode: 0o111 },
    "s/0711": { mode: 0o711 },
    "s/0444": { mode: 0o444 },
  };
  const files: Record<string, string | Buffer> = {
    ...{ "w/prog": program, "w/x/prog": program, "w/sh": readFileSync("/bin/busybox") },
    ...{
      "d/prog": program,
      "d2/prog/inside": "",
      "d3/prog": program,
      "d5/prog": "#!/nope\n",
      "d6/prog": "text\n",
    },
    ...{ "shut/prog": program, "open50/prog": program, "searched/prog": program },
    ...{ "p/ok": program, "p/0111": program, "p/0100": program, "p/own": program, "p/group": program },
    ...{ "p/extra": program, "p/setuid": program },
    ...{
      "s/cr": `#!/bin/sh\r${script}`,
      "s/crenv": `#!/usr/bin/env sh\r${script}`,
      "s/croption": `#!/bin/sh -e\r${script}`,
    },
    ...{
      "s/spaces": `#!  /bin/sh \t ${script}`,
      "s/tab": `#!\t/bin/sh\t-e${script}`,
      "s/relative": `#!bin/sh${script}`,
    },
    ...{
      "s/bare": `#!sh${script}`,
      "s/255": `#!${"/".repeat(246)}bin/sh${script}`,
      "s/300": `#!${"/".repeat(290)}bin/sh${script}`,
    },
    ...{
      "s/nul": `#!/bin/sh\0x${script}`,
      "s/nothing": "#!\n",
      "s/blank": "#!   \n",
      "s/empty": "",
      "s/text": "echo STARTED\n",
    },
    ...{
      "s/0111": `#!/bin/sh${script}`,
      "s/0711": `#!/bin/sh${script}`,
      "s/0444": `#!/bin/sh${script}`,
      "s/mark": `\ufeff#!/bin/sh${script}`,
    },
    ...Object.fromEntries(
      [1, 2, 3, 4, 5, 6].map((n) => [`s/n${n}`, `#!${n === 1 ? "/bin/sh" : `/s/n${n - 1}`}${script}`]),
    ),
    ...{
      "i/directory": "#!/etc\n",
      "i/data": "#!/etc/passwd\n",
      "i/text": "#!/s/text\n",
      "i/arm": "#!/e/arm\n",
      "i/loop": "#!/loop\n",
    },
    ...{ "i/below": "#!/etc/passwd/sh\n", "i/shut": "#!/shut/prog\n", "i/program": "#!/p/ok\n" },
    ...{
      "v/S": `#!/usr/bin/env -S sh -e${script}`,
      "v/words": `#!/usr/bin/env sh -e${script}`,
      "v/busyboxS": `#!/bin/env -S sh -e${script}`,
    },
    ...{
      "v/missing": "#!/usr/bin/env nope\n",
      "v/path": "#!/usr/bin/env -S PATH=/nowhere sh\n",
      "v/etc": "#!/usr/bin/env /etc\n",
    },
    ...{ "v/text": "#!/usr/bin/env /s/text\n" },
    ...{
      "e/32": build("-m32", "-static", "-fno-pic", "-no-pie"),
      "e/pie": build("-static-pie"),
      "e/object": build("-c", "-r"),
    },
    ...{
      "e/arm": elf({ machine: 183, dynamic: false }),
      "e/big": elf({ machine: 22, bigEndian: true, dynamic: false }),
    },
    ...{
      "e/40": program.subarray(0, 40),
      "e/100": program.subarray(0, 100),
      "e/500": program.subarray(0, 500),
    },
    ...{
      "e/core": edited(16, 4),
      "e/none": edited(56, 0),
      "e/headers": edited(56, 0xffff),
      "e/size": edited(54, 57),
    },
    ...{
      "l/own": named,
      "lib64/own.so": program,
      "l/nameless": nameless,
      "l/relative": interpretedBy("d/prog"),
    },
    ...Object.fromEntries(
      Object.entries({
        ...{
          missing: "/no/ld.so",
          directory: "/etc",
          data: "/d3/prog",
          text: "/etc/passwd",
          short: "/s/text",
          script: "/s/cr",
        },
        ...{
          arm: "/e/arm",
          other: "/e/32",
          object: "/e/object",
          loop: "/loop",
          below: "/etc/passwd/ld",
          shut: "/shut/prog",
        },
        ...{ long: `/${"long/".repeat(900)}`, user: "/p/0100" },
      }).map(([name, loader]) => [`l/${name}`, interpretedBy(loader)]),
    ),
  };
  return [
    ...busyboxTree("sh", "env", "echo", "cat"),
    ...[...glibcTree, hostFile("/usr/bin/env")],
    ...[
      { path: "shut/", mode: 0o700 },
      { path: "open50/", mode: 0o750, gid: 50 },
      { path: "searched/", mode: 0o711 },
    ],
    ...Object.entries(files).map(([at, content]) => ({ path: at, content, mode: 0o755, ...modes[at] })),
    ...Object.entries({
      ...{
        loop: "loop",
        dangling: "/nowhere",
        above: "../../../p/ok",
        absolute: "/p/ok",
        "into-shut": "shut/prog",
      },
      ...{
        "through-shut": "/shut/../p/ok",
        "d7/prog": "prog",
        "d8/prog": "/nowhere",
        "d9/prog": "../../../p/ok",
      },
    }).map(([at, link]) => ({ path: at, link })),
    { path: "d11/prog", type: "fifo", mode: 0o777 },
  ];
}

const alone = (directory: string, ...names: string[]) =>
  names.map((name): Start => [`/${directory}/${name}`]);
const as = (user: string, starts: readonly Start[]) => starts.map((one): Start => [...one, "--user", user]);
const along = (search: string, ...flags: string[]): Start => ["prog", "--env", `PATH=${search}`, ...flags];
const inW = ["--workdir", "/w"];

const groups: Record<string, readonly Start[]> = {
  "files, links and modes": [
    ...([
      ["/loop"],
      ["/dangling"],
      ["/above"],
      ["/absolute"],
      ["/p/ok/"],
      ["/p/../p/./ok"],
      ["/"],
      [`/${"n".repeat(300)}`],
    ] as Start[]),
    ...alone("p", "0111", "0100", "setuid"),
    ...as("app", [
      ...alone("p", "0111", "0100", "own", "group", "extra", "setuid"),
      ["/into-shut"],
      ["/through-shut"],
    ]),
    ...as("app", [["/searched/prog"], ["/open50/prog"]]),
    ...as("1000:1000", [["/open50/prog"], ["/p/extra"]]),
    ["/open50/prog", "--user", "1001:50"],
  ],
  "places along PATH, and relative ones": [
    ...["d2", "d3", "d5", "d6", "d7", "d8", "d9", "d11"].flatMap((d) => [along(`/${d}:/d`), along(`/${d}`)]),
    ...as(
      "app",
      ["/d2", "/d3", "/d3:/d", "/shut", "/shut:/d"].map((search) => along(search)),
    ),
    ...["/none:", ":/d", "x:/d", "x/none:/d", "", "/d/", "/d/../d", "~/bin:/d"].map((search) =>
      along(search, ...inW),
    ),
    ...([["./prog", ...inW], ["x/prog", ...inW], ["../p/ok", ...inW], ["x/prog"], [""], ["."]] as Start[]),
    ["./prog", "--workdir", "/shut", "--user", "app"],
  ],
  scripts: [
    ...alone(
      "s",
      "cr",
      "crenv",
      "croption",
      "spaces",
      "tab",
      "relative",
      "bare",
      "255",
      "300",
      "nul",
      "nothing",
      "blank",
      "empty",
      "text",
    ),
    ...alone("s", "mark", "0111", "0444", "n5", "n6"),
    ["/s/bare", ...inW],
    ["/s/relative", ...inW],
    ...as("app", alone("s", "0111", "0711", "0444", "n5")),
    ...alone("i", "directory", "data", "text", "arm", "loop", "below", "program"),
    ...as("app", alone("i", "shut")),
    ...alone("v", "S", "words", "busyboxS", "missing", "path", "etc", "text"),
  ],
  "ELF objects and their interpreters": [
    ...alone("e", "32", "pie", "object", "arm", "big", "40", "100", "500", "core", "none", "headers", "size"),
    ...alone(
      "l",
      "own",
      "nameless",
      "relative",
      "missing",
      "directory",
      "data",
      "text",
      "short",
      "script",
      "arm",
      "other",
    ),
    ...alone("l", "object", "loop", "below", "long", "user"),
    ["/l/relative", ...inW],
    ...as("app", alone("l", "shut", "user")),
  ],
  "working directories": [
    ...["/shut", "/shut/new", "/w/../etc", "/dangling", "/p/ok", "/loop"].map(
      (directory): Start => ["/p/ok", "--workdir", directory, "--user", "app"],
    ),
  ],
};

describe("the doctor and runc agree about", () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await makeFixture(makeTree(await makeTempDir("zoo")), { Env: ["PATH=/bin:/usr/bin"] });
  });

  const differences = async ([command, ...flags]: Start): Promise<string[]> => {
    const args = typeof command === "string" ? [command] : command;
    const option = (name: string) => (flags.includes(name) ? flags[flags.indexOf(name) + 1] : undefined);
    const [user, workdir, env] = [option("--user"), option("--workdir"), option("--env")];
    const { checks } = await fixture.examine({
      args,
      ...(user === undefined ? {} : { user }),
      ...(workdir === undefined ? {} : { workdir }),
      ...(env === undefined ? {} : { env: [env] }),
    });
    const [fault] = checks.filter(({ status }) => status === "fail");
    const ran = await fixture.run(...flags, "--", ...args);
    const [said] = ran.stderr.split(/; [a-z-]+ [^;]*Fix: |skim: it did not start/);
    const found: string[] = [];
    if (ran.stdout.includes("STARTED") === (fault !== undefined))
      found.push(fault ? "false alarm" : "missed");
    const words = /will say "(.*?)"[,)]/.exec(fault?.detail ?? "")?.[1];
    if (words && !said!.toLowerCase().includes(words.toLowerCase())) found.push(`it does not say ${words}`);
    if (fault && !ran.stderr.includes(saidOf(fault)) && !ran.stderr.includes("MOUNT_FAILED"))
      found.push("not explained");
    return found.map((one) => `${args} ${flags.join(" ")}: ${one}: ${fault?.detail}: ${said}`);
  };
  const saidOf = ({ detail }: ExaminedCheck) => detail.slice(0, 20);

  it.each(Object.entries(groups))("%s", { timeout: 300_000 }, async (_, starts) => {
    const found: string[] = [];
    for (const start of starts) found.push(...(await differences(start)));
    expect(found).toEqual([]);
  });

  it.each(["crun", "runsc"] as const)(
    "(and %s) which places along PATH count",
    { timeout: 300_000 },
    async (runtime) => {
      const searches = [":/d", "x:/d", "x", "", "/none:", "/d3:/d", "/d7:/d", "/d11:/d", "/d8"];
      const found: string[] = [];
      for (const search of searches) {
        const env = `PATH=${search}`;
        const examination = await fixture.examine({ runtime, args: ["prog"], env: [env], workdir: "/w" });
        const ran = await fixture.run("--runtime", runtime, "--env", env, ...inW, "--", "prog");
        const hasStarted = ran.stdout.includes("STARTED");
        if (hasStarted === examination.counts.fail > 0) found.push(`${search}: ${hasStarted}: ${ran.stderr}`);
      }
      expect(found).toEqual([]);
    },
  );
});
