import { readFileSync } from "node:fs";
import { chmod, cp, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { ExamineImageOptions } from "../../src/mount/examine-image.js";
import { elf } from "../program/elf-builder.js";
import type { TarEntrySpec } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";
import {
  busyboxTree,
  compile,
  expectNoFailure,
  type Fixture,
  type FixtureOptions,
  failed,
  fixtureHost,
  glibcTree,
  hostFile,
  makeFixture,
} from "./fixture-image.js";

const env = ["PATH=/bin:/usr/bin"];
const file = (at: string, content: string | Buffer, mode = 0o755): TarEntrySpec => ({
  path: at,
  content,
  mode,
});

interface FailingStart {
  readonly entries: TarEntrySpec[];
  readonly config?: Record<string, unknown>;
  readonly image?: FixtureOptions;
  /** Options of both commands. */
  readonly flags?: string[];
  readonly options?: Partial<ExamineImageOptions>;
  /** What the doctor says. */
  readonly id: string;
  readonly path: string;
  readonly detail: RegExp;
  /** How the real start ends. */
  readonly code: number;
  readonly says: RegExp;
}

/** Each is examined, and then started by runc: what the doctor says will be said is said. */
const failing: Record<string, FailingStart> = {
  "a glibc program in an image without glibc": {
    entries: [...busyboxTree("sh"), hostFile("/usr/bin/true", "/app")],
    config: { Cmd: ["/app"] },
    id: "interp",
    path: "/app",
    detail:
      /^needs \/lib64\/ld-linux-x86-64\.so\.2, not in the image \(the kernel will say "no such file or directory"\)$/,
    code: 1,
    says: /exec \/app: no such file or directory/,
  },
  "an interpreter behind symlinks to nowhere": {
    entries: [...busyboxTree("sh"), hostFile("/usr/bin/true", "/app"), { path: "lib64", link: "usr/lib64" }],
    config: { Cmd: ["/app"] },
    id: "interp",
    path: "/app",
    detail: /not in the image \(\/lib64 is a symlink to usr\/lib64\)/,
    code: 1,
    says: /exec \/app: no such file or directory/,
  },
  "an interpreter that is no loader": {
    entries: [
      ...busyboxTree("sh"),
      hostFile("/usr/bin/true", "/app"),
      file("lib64/ld-linux-x86-64.so.2", "text"),
    ],
    config: { Cmd: ["/app"] },
    id: "interp",
    path: "/app",
    detail: /which is no ELF object/,
    code: 1,
    says: /exec \/app: (accessing a corrupted shared library|exec format error|input\/output error)/,
  },
  "a program for another processor": {
    entries: [...busyboxTree("sh"), file("app", elf({ machine: 183, dynamic: false }))],
    config: { Cmd: ["/app"] },
    id: "arch-program",
    path: "/app",
    detail: /a program for arm64, and this host is amd64 \(the kernel will say "exec format error"\)/,
    code: 1,
    says: /exec \/app: exec format error/,
  },
  "a command that is nowhere on PATH": {
    entries: busyboxTree("sh"),
    config: { Cmd: ["serve"], Env: env },
    id: "entrypoint",
    path: "serve",
    detail: /^in none of \/bin:\/usr\/bin \(the runtime will say "executable file not found in \$PATH"\)$/,
    code: 127,
    says: /"serve": executable file not found in \$PATH/,
  },
  "a PATH of loops": {
    entries: [
      ...busyboxTree("sh"),
      { path: "loop", link: "loop" },
      { path: "a", link: "b" },
      { path: "b", link: "a" },
    ],
    config: { Cmd: ["sh"], Env: ["PATH=/loop:/a/b:/bin/busybox"] },
    id: "entrypoint",
    path: "sh",
    detail: /in none of/,
    code: 127,
    says: /"sh": executable file not found in \$PATH/,
  },
  "a command that is a loop": {
    entries: [...busyboxTree("sh"), { path: "app", link: "app" }],
    config: { Cmd: ["/app"] },
    id: "entrypoint",
    path: "/app",
    detail: /lead in a circle.*too many levels of symbolic links/,
    code: 125,
    says: /too many levels of symbolic links.*entrypoint \/app/,
  },
  "a command below a file": {
    entries: busyboxTree("sh"),
    config: { Cmd: ["/etc/passwd/app"] },
    id: "entrypoint",
    path: "/etc/passwd/app",
    detail: /not a directory/,
    code: 125,
    says: /not a directory/,
  },
  "a command that is a directory": {
    entries: busyboxTree("sh"),
    config: { Cmd: ["/etc"] },
    id: "entrypoint",
    path: "/etc",
    detail: /^a directory/,
    code: 126,
    says: /exec: "\/etc": (permission denied|is a directory)/,
  },
  "a command without execute bits": {
    entries: [...busyboxTree("sh"), file("app", "#!/bin/sh\n", 0o644)],
    config: { Cmd: ["/app"] },
    id: "executable",
    path: "/app",
    detail: /^not executable for root \(mode 0644, owner 0:0\)/,
    code: 126,
    says: /exec: "\/app": permission denied/,
  },
  "a command that its user may not execute": {
    entries: [...busyboxTree("sh"), file("app", "#!/bin/sh\n", 0o750)],
    config: { Cmd: ["/app"], User: "app" },
    id: "executable",
    path: "/app",
    detail: /^not executable for user 1000 \(mode 0750, owner 0:0\)/,
    code: 126,
    says: /exec \/app: permission denied/,
  },
  "a command in a directory that its user may not search": {
    entries: [...busyboxTree("sh"), { path: "shut/", mode: 0o700 }, file("shut/app", "#!/bin/sh\n")],
    config: { Cmd: ["/shut/app"], User: "1000:1000" },
    id: "executable",
    path: "/shut/app",
    detail: /the directory that has app may not be searched by user 1000 \(mode 0700, owner 0:0\)/,
    code: 126,
    says: /permission denied/,
  },
  "a text file without a first line for the kernel": {
    entries: [...busyboxTree("sh"), file("app", "echo hello\n")],
    config: { Cmd: ["/app"] },
    id: "format",
    path: "/app",
    detail: /neither a program nor a script.*exec format error/,
    code: 1,
    says: /exec \/app: exec format error/,
  },
  "a script with a byte order mark": {
    entries: [...busyboxTree("sh"), file("app", "\ufeff#!/bin/sh\necho hello\n")],
    config: { Cmd: ["/app"] },
    id: "format",
    path: "/app",
    detail: /exec format error/,
    code: 1,
    says: /exec \/app: exec format error/,
  },
  "a script of Windows": {
    entries: [...busyboxTree("sh"), file("app", "#!/bin/sh\r\necho hello\r\n")],
    config: { Cmd: ["/app"] },
    id: "script",
    path: "/app",
    detail: /ends as on Windows \(CRLF\): the kernel looks for \/bin\/sh\\x0d/,
    code: 1,
    says: /exec \/app: no such file or directory/,
  },
  "a script of Windows with an option": {
    entries: [...busyboxTree("sh"), file("app", "#!/bin/sh -e\r\necho hello\r\n")],
    config: { Cmd: ["/app"] },
    id: "script",
    path: "/app",
    detail: /\/bin\/sh is given -e\\x0d/,
    code: 2,
    says: /illegal option/i,
  },
  "a script without its interpreter": {
    entries: [...busyboxTree("sh"), file("app", "#!/usr/bin/perl -w\n")],
    config: { Cmd: ["/app"] },
    id: "script",
    path: "/app",
    detail: /its first line names \/usr\/bin\/perl, not in the image/,
    code: 1,
    says: /exec \/app: no such file or directory/,
  },
  "scripts that interpret each other": {
    entries: [...busyboxTree("sh"), file("app", "#!/app\n")],
    config: { Cmd: ["/app"] },
    id: "script",
    path: "/app",
    detail: /more than 5 scripts interpret each other.*too many levels of symbolic links/,
    code: 1,
    says: /exec \/app: too many levels of symbolic links/,
  },
  "a script that its user may run but not read": {
    entries: [...busyboxTree("sh"), file("app", "#!/bin/sh\necho hello\n", 0o711)],
    config: { Cmd: ["/app"], User: "1000" },
    id: "script",
    path: "/app",
    detail: /user 1000 may not read it/,
    code: 2,
    says: /can't open '\/app': Permission denied/,
  },
  "a script whose env finds nothing": {
    entries: [...busyboxTree("sh", "env"), file("app", "#!/bin/env python3\n")],
    config: { Cmd: ["/app"], Env: env },
    id: "env",
    path: "python3",
    detail: /in none of \/bin:\/usr\/bin \(it will say "No such file or directory"\)/,
    code: 127,
    says: /env: can't execute 'python3': No such file or directory/,
  },
  "a script whose env -S finds nothing": {
    entries: [
      ...busyboxTree("sh"),
      ...glibcTree,
      hostFile("/usr/bin/env"),
      file("app", "#!/usr/bin/env -S A=1 node --no-warnings\n"),
    ],
    config: { Cmd: ["/app"], Env: env },
    id: "env",
    path: "node",
    detail: /in none of \/bin:\/usr\/bin/,
    code: 127,
    says: /env: .node.: No such file or directory/,
  },
  "a script that counts on env -S, and busybox's": {
    entries: [...busyboxTree("sh", "env"), file("app", "#!/bin/env -S sh -e\n")],
    config: { Cmd: ["/app"], Env: env },
    id: "env",
    path: "/bin/env",
    detail: /^busybox's env, which does not know -S/,
    code: 1,
    says: /env: (invalid|unrecognized) option/,
  },
  "a wrapper that finds nothing to wrap": {
    entries: busyboxTree("timeout"),
    config: { Entrypoint: ["timeout", "-k", "5", "60"], Cmd: ["serve"], Env: env },
    id: "wrapped",
    path: "serve",
    detail:
      /^\/bin\/timeout is to start it: in none of \/bin:\/usr\/bin \(it will say "No such file or directory"\)$/,
    code: 127,
    says: /timeout: can't execute 'serve': No such file or directory\nskim: it did not start: FAIL wrapped serve/,
  },
  "a script of Windows behind a wrapper": {
    entries: [...busyboxTree("sh", "timeout"), file("app", "#!/bin/sh\r\n")],
    config: { Entrypoint: ["timeout", "-k", "5", "60", "/app"], Env: env },
    id: "script",
    path: "/app",
    detail: /ends as on Windows/,
    code: 127,
    says: /timeout: can't execute '\/app': No such file or directory/,
  },
  "a program that is cut off": {
    entries: [...busyboxTree("sh"), file("app", readFileSync("/bin/busybox").subarray(0, 100_000))],
    config: { Cmd: ["/app"] },
    id: "format",
    path: "/app",
    detail: /^cut off: a segment ends at \d+, and the file at 100000 \(it will end with SIGBUS or SIGSEGV/,
    code: 139,
    says: /skim: it did not start: FAIL format \/app: cut off/,
  },
  "a program without one of its libraries": {
    entries: [...busyboxTree("sh"), ...glibcTree, hostFile("/usr/bin/ls", "/app")],
    config: { Cmd: ["/app"] },
    options: { deps: true },
    id: "libraries",
    path: "/app",
    detail: /needs libselinux\.so\.1, in none of .*"error while loading shared libraries: libselinux\.so\.1"/,
    code: 127,
    says: /error while loading shared libraries: libselinux\.so\.1/,
  },
  "a library that the user may not read": {
    entries: [
      ...busyboxTree("sh"),
      ...glibcTree.map((one) => (String(one.path).includes("libc.so") ? { ...one, mode: 0o600 } : one)),
      hostFile("/usr/bin/true", "/app"),
    ],
    config: { Cmd: ["/app"], User: "app" },
    options: { deps: true },
    id: "libraries",
    path: "/app",
    detail: /user 1000 may not read \/lib\/x86_64-linux-gnu\/libc\.so\.6 \(mode 0600, owner 0:0/,
    code: 127,
    says: /libc\.so\.6: cannot open shared object file/,
  },
  "a command by a relative entry of PATH": {
    entries: [...busyboxTree("sh"), file("work/serve", "#!/bin/sh\n")],
    config: { Cmd: ["serve"], Env: ["PATH=.:/bin"], WorkingDir: "/work" },
    id: "entrypoint",
    path: "serve",
    detail: /^found by the relative entry "\." of PATH/,
    code: 125,
    says: /cannot run executable found relative to current directory.*entrypoint serve/,
  },
  "a user that the image does not know": {
    entries: busyboxTree("sh"),
    config: { Cmd: ["sh"], User: "web:web", Env: env },
    id: "user",
    path: '"web:web"',
    detail: /user "web" is not in the image's \/etc\/passwd/,
    code: 125,
    says: /"web" is not in the image's \/etc\/passwd/,
  },
  "a user's name without accounts": {
    entries: [{ path: "bin/busybox", content: readFileSync("/bin/busybox"), mode: 0o755 }],
    config: { Cmd: ["/bin/busybox"], User: "nonroot" },
    id: "user",
    path: '"nonroot"',
    detail: /passwd, which it does not have/,
    code: 125,
    says: /passwd, which it does not have/,
  },
  "a group that the image does not know": {
    entries: busyboxTree("sh"),
    config: { Cmd: ["sh"], User: "app:nobody-knows", Env: env },
    id: "user",
    path: '"app:nobody-knows"',
    detail: /group "nobody-knows" is not in the image's \/etc\/group/,
    code: 125,
    says: /nobody-knows/,
  },
  "a directory where runc reads the groups": {
    entries: [
      ...busyboxTree("sh").filter(({ path }) => path !== "etc/group"),
      { path: "etc/group/", type: "directory" },
    ],
    config: { Cmd: ["sh"], Env: env },
    id: "user",
    path: "/etc/group",
    detail: /^a directory: runc reads it and fails/,
    code: 125,
    says: /read \/etc\/group: is a directory/,
  },
  "a working directory that is a file": {
    entries: [...busyboxTree("sh"), file("work", "")],
    config: { Cmd: ["sh"], WorkingDir: "/work", Env: env },
    id: "directory",
    path: "/work",
    detail: /^a file in the image: no directory can be made there$/,
    code: 125,
    says: /\/work, which is not a directory/,
  },
  "a working directory in /proc": {
    entries: busyboxTree("sh"),
    config: { Cmd: ["sh"], WorkingDir: "/proc/self/fd/7", Env: env },
    id: "workdir",
    path: "/proc/self/fd/7",
    detail: /skim refuses it/,
    code: 125,
    says: /in \/proc/,
  },
  "a volume below a file": {
    entries: [...busyboxTree("sh"), file("data", "")],
    config: { Cmd: ["sh"], Volumes: { "/data/db": {} }, Env: env },
    id: "directory",
    path: "/data/db",
    detail: /data is not a directory in the image: no directory can be made there/,
    code: 125,
    says: /\/data, which is not a directory/,
  },
  "a /proc that is a symlink": {
    entries: [...busyboxTree("sh"), { path: "elsewhere/" }, { path: "proc", link: "elsewhere" }],
    config: { Cmd: ["sh"], Env: env },
    id: "directory",
    path: "/proc",
    detail: /a symlink to elsewhere.*must be mounted on ordinary directory/,
    code: 125,
    says: /must be mounted on ordinary directory.*directory \/proc/,
  },
  "an /etc/hosts that is a directory": {
    entries: [...busyboxTree("sh"), { path: "etc/hosts/" }],
    config: { Cmd: ["sh"], Env: env },
    id: "mount",
    path: "/etc/hosts",
    detail: /the host's \/etc\/hosts is mounted there, and the image has a directory there/,
    code: 125,
    says: /not a directory.*mount \/etc\/hosts/,
  },
  "a tmpfs on a file": {
    entries: [...busyboxTree("sh"), file("scratch", "")],
    config: { Cmd: ["sh"], Env: env },
    flags: ["--mount", "type=tmpfs,target=/scratch"],
    options: { mounts: [{ destination: "/scratch", type: "tmpfs", source: "tmpfs", options: [] }] },
    id: "mount",
    path: "/scratch",
    detail: /a tmpfs is to be mounted, and the image has no directory there/,
    code: 125,
    says: /not a directory.*mount \/scratch/,
  },
  "a directory on a file": {
    entries: [...busyboxTree("sh"), file("scratch", "")],
    config: { Cmd: ["sh"], Env: env },
    flags: ["--mount", "type=bind,source=/usr,target=/scratch"],
    options: { mounts: [{ destination: "/scratch", type: "bind", source: "/usr", options: [] }] },
    id: "mount",
    path: "/scratch",
    detail:
      /a directory is to be mounted, and the image has no directory there \(the runtime will say "not a directory"\)/,
    code: 125,
    says: /not a directory/,
  },
  "a mount below a file": {
    entries: [...busyboxTree("sh"), file("scratch", "")],
    config: { Cmd: ["sh"], Env: env },
    flags: ["--mount", "type=tmpfs,target=/scratch/below"],
    options: { mounts: [{ destination: "/scratch/below", type: "tmpfs", source: "tmpfs", options: [] }] },
    id: "mount",
    path: "/scratch/below",
    detail: /something on the way is not a directory/,
    code: 125,
    says: /not a directory/,
  },
  "a mount whose source is not there": {
    entries: busyboxTree("sh"),
    config: { Cmd: ["sh"], Env: env },
    flags: ["--mount", "type=bind,source=/no/such/place,target=/data"],
    options: { mounts: [{ destination: "/data", type: "bind", source: "/no/such/place", options: [] }] },
    id: "mount",
    path: "/data",
    detail: /its source \/no\/such\/place is not on this host/,
    code: 125,
    says: /no such file or directory/,
  },
  "two mounts in one place": {
    entries: busyboxTree("sh"),
    config: { Cmd: ["sh"], Env: env },
    flags: ["--mount", "type=tmpfs,target=/data", "--mount", "type=tmpfs,target=/data/."],
    options: {
      mounts: ["/data", "/data/."].map((destination) => ({
        destination,
        type: "tmpfs",
        source: "tmpfs",
        options: [],
      })),
    },
    id: "mount-target",
    path: "/data/.",
    detail: /two mounts have this target/,
    code: 125,
    says: /two mounts have the target \/data/,
  },
  "a mount in /proc": {
    entries: busyboxTree("sh"),
    config: { Cmd: ["sh"], Env: env },
    flags: ["--mount", "type=tmpfs,target=/proc/x"],
    options: { mounts: [{ destination: "/proc/x", type: "tmpfs", source: "tmpfs", options: [] }] },
    id: "mount-target",
    path: "/proc/x",
    detail: /in \/proc/,
    code: 125,
    says: /not in \/proc/,
  },
  "no command": {
    entries: busyboxTree("sh"),
    id: "entrypoint",
    path: "the image's config",
    detail: /neither Entrypoint nor Cmd/,
    code: 125,
    says: /has no command/,
  },
};

describe("where the doctor says that a start will fail", () => {
  it.each(Object.entries(failing))("%s: it does, and says so", async (_, made) => {
    const fixture = await makeFixture(made.entries, made.config, made.image);
    const examination = await fixture.examine(made.options);
    const found = examination.checks.filter(({ status }) => status === "fail");
    expect(found).toMatchObject([
      { id: made.id, path: made.path, detail: expect.stringMatching(made.detail) },
    ]);
    expect(found[0]!.fix).toMatch(/\w/);
    const ran = await fixture.run(...(made.flags ?? []));
    expect(ran.stderr).toMatch(made.says);
    expect(ran.code).toBe(made.code);
  });

  it("leaves nothing behind", async () => {
    expect(await (await fixtureHost()).leftovers()).toEqual([]);
  });
});

const working: Record<string, Omit<FailingStart, "id" | "path" | "detail" | "says" | "code">> = {
  busybox: { entries: busyboxTree("sh", "true"), config: { Cmd: ["true"], Env: env } },
  "a static program and nothing else": {
    entries: [{ path: "true", content: readFileSync("/bin/busybox"), mode: 0o755 }],
    config: { Entrypoint: ["/true"], User: "65532:65532" },
  },
  "a user without accounts, as a number": {
    entries: [{ path: "true", content: readFileSync("/bin/busybox"), mode: 0o755 }],
    config: { Entrypoint: ["/true"], User: "1000", WorkingDir: "/work/below" },
  },
  "glibc, its loader behind symlinks": {
    entries: [
      hostFile("/usr/bin/true"),
      hostFile("/lib64/ld-linux-x86-64.so.2", "/usr/lib64/ld-linux-x86-64.so.2"),
      hostFile("/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libc.so.6"),
      { path: "lib64", link: "usr/lib64" },
      { path: "lib", link: "/usr/lib" },
    ],
    config: { Cmd: ["true"], Env: env },
    options: { deps: true },
  },
  "a store of programs, and symlinks to them": {
    entries: [
      file("nix/store/aaa-busybox/bin/busybox", readFileSync("/bin/busybox"), 0o555),
      { path: "nix/store/bbb-tools/bin/true", link: "/nix/store/aaa-busybox/bin/busybox" },
      { path: "nix/store/ccc-profile/bin", link: "../bbb-tools/bin" },
    ],
    config: { Cmd: ["true"], Env: ["PATH=/nix/store/ccc-profile/bin"] },
  },
  "without a shell, for a user who is not root": {
    entries: [
      ...glibcTree,
      hostFile("/usr/bin/true", "/app/true"),
      {
        path: "etc/passwd",
        content: "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n",
      },
      { path: "etc/group", content: "root:x:0:\nnonroot:x:65532:\n" },
      { path: "home/nonroot/", mode: 0o700, uid: 65532, gid: 65532 },
      { path: "tmp/", mode: 0o1777 },
    ],
    config: {
      Entrypoint: ["/app/true"],
      User: "nonroot",
      WorkingDir: "/home/nonroot",
      Env: ["SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
    },
    options: { deps: true },
  },
  "a script through env -S": {
    entries: [
      ...busyboxTree("sh", "true"),
      ...glibcTree,
      hostFile("/usr/bin/env"),
      file("app", "#!/usr/bin/env -S A=1 sh -e\ntrue\n"),
    ],
    config: { Cmd: ["/app"], Env: env },
    options: { deps: true },
  },
  "a program of the user's group": {
    entries: [...busyboxTree("sh", "true"), { ...file("app", "#!/bin/sh\ntrue\n", 0o750), gid: 50 }],
    config: { Cmd: ["/app"], User: "app" },
  },
  "a program of the PATH that comes behind one that cannot be executed": {
    entries: [...busyboxTree("sh", "true"), file("opt/true", "", 0o644)],
    config: { Cmd: ["true"], Env: ["PATH=/opt:/bin"] },
  },
  "volumes and a working directory over symlinks": {
    entries: [
      ...busyboxTree("sh", "true"),
      { path: "run/" },
      { path: "var/run", link: "/run" },
      { path: "data", link: "var/data" },
    ],
    config: {
      Cmd: ["true"],
      Env: env,
      Volumes: { "/var/run/app": {}, "/data": {} },
      WorkingDir: "/data/work",
    },
  },
  "a /tmp that is a symlink": {
    entries: [
      { path: "bin/", mode: 0o755 },
      { path: "bin/true", content: readFileSync("/bin/busybox"), mode: 0o755 },
      { path: "var/tmp/", mode: 0o1777 },
      { path: "tmp", link: "var/tmp" },
    ],
    config: { Cmd: ["/bin/true"] },
  },
};

describe("where the doctor sees no failure", () => {
  it.each(Object.entries(working))("%s: it starts", async (_, made) => {
    const fixture = await makeFixture(made.entries, made.config, made.image);
    expectNoFailure(await fixture.examine(made.options));
    const ran = await fixture.run(...(made.flags ?? []));
    expect(ran.stderr).not.toMatch(/skim|FAIL/);
    expect(ran.code).toBe(0);
  });
});

describe("a command that another one of its name stands in front of on PATH", () => {
  it("is only warned of: which one is taken, is the runtime's affair", async () => {
    const entries = [...busyboxTree("sh", "true"), file("opt/true", readFileSync("/bin/busybox"), 0o700)];
    const fixture = await makeFixture(entries, { Cmd: ["true"], Env: ["PATH=/opt:/bin"], User: "app" });
    expectNoFailure(await fixture.examine());
    expect(await fixture.check("executable")).toMatchObject([
      {
        status: "warn",
        path: "/opt/true",
        detail: expect.stringMatching(/user 1000 may not execute it \(mode 0700/),
      },
    ]);
    const ran = await fixture.run();
    if (ran.code === 0) return;
    expect(ran).toMatchObject({ code: 126 });
    expect(ran.stderr).toMatch(/exec \/opt\/true: permission denied/);
    expect(ran.stderr).toMatch(/skim: it did not start: WARN executable \/opt\/true: /);
  });
});

describe("files that are injected", () => {
  let dir: string;
  let musl: Fixture;

  beforeAll(async () => {
    dir = await makeTempDir("injected");
    await mkdir(path.join(dir, "node20/bin"), { recursive: true });
    await cp("/usr/bin/true", path.join(dir, "node20/bin/node"));
    await cp("/bin/busybox", path.join(dir, "static"));
    await writeFile(path.join(dir, "node20/LICENSE"), "text\n");
    musl = await makeFixture(
      [...busyboxTree("sh"), file("lib/ld-musl-x86_64.so.1", elf({ soname: "libc.musl-x86_64.so.1" }))],
      { Cmd: ["sh", "-c", "/__e/node20/bin/node"], Env: env },
    );
  });

  it("a glibc program in a directory, given to an image of musl: what it misses, whose it is, and what to do", async () => {
    const injected = [{ host: path.join(dir, "node20"), path: "/__e/node20" }];
    expect(await musl.check("interp", { injected })).toMatchObject([
      {
        status: "fail",
        path: "/__e/node20/bin/node",
        detail:
          'needs /lib64/ld-linux-x86-64.so.2, not in the image (the kernel will say "no such file or directory")',
        fix: expect.stringMatching(
          /^the image has musl \(\/lib\/ld-musl-x86_64\.so\.1\): take a build for musl/,
        ),
      },
    ]);
    const ran = await musl.run("--mount", `type=bind,source=${injected[0]!.host},target=/__e/node20`);
    expect(ran).toMatchObject({
      code: 127,
      stderr: expect.stringMatching(/\/__e\/node20\/bin\/node: not found/),
    });
  });

  it("count as part of the image: a command, a loader, a library that the image lacks", async () => {
    const injected = [
      { host: path.join(dir, "static"), path: "/opt/tools/busybox" },
      { host: path.join(dir, "node20"), path: "/__e/node20" },
      { host: "/lib64/ld-linux-x86-64.so.2", path: "/lib64/ld-linux-x86-64.so.2" },
      { host: "/lib/x86_64-linux-gnu/libc.so.6", path: "/usr/lib/libc.so.6" },
    ];
    const examination = await musl.examine({ injected, entrypoint: ["/opt/tools/busybox"], deps: true });
    expectNoFailure(examination);
    const flags = injected.flatMap((one) => ["--mount", `type=bind,source=${one.host},target=${one.path}`]);
    expect(await musl.run(...flags)).toMatchObject({ code: 0 });
  });

  it("a link in them leads nowhere on the host", async () => {
    const tree = path.join(dir, "links");
    await mkdir(tree);
    const { symlink } = await import("node:fs/promises");
    await symlink("/usr/bin/true", path.join(tree, "app"));
    const injected = [{ host: tree, path: "/links" }];
    expect(await musl.check("entrypoint", { injected, entrypoint: ["/links/app"] })).toMatchObject([
      {
        status: "fail",
        detail: expect.stringMatching(/a symlink to \/usr\/bin\/true, which is not in the image/),
      },
    ]);
  });

  it("that are not there, or not of the kind of what they cover, are told", async () => {
    const injected = [
      { host: path.join(dir, "absent"), path: "/absent" },
      { host: path.join(dir, "static"), path: "/etc" },
    ];
    expect(await musl.check("mount", { injected })).toMatchObject([
      { status: "fail", path: "/absent", detail: expect.stringMatching(/is not on this host/) },
      {
        status: "fail",
        path: "/etc",
        detail: expect.stringMatching(/a file is to be mounted, and the image has a directory/),
      },
    ]);
  });

  it("without execute permission for the user fail as in the image", async () => {
    await chmod(path.join(dir, "static"), 0o700);
    const injected = [{ host: path.join(dir, "static"), path: "/app" }];
    const options = { injected, entrypoint: ["/app"], user: "app" };
    expect(failed(await musl.examine(options))).toEqual(["executable"]);
    const ran = await musl.run(
      "--mount",
      `type=bind,source=${injected[0]!.host},target=/app`,
      "--user",
      "app",
      "--entrypoint",
      "/app",
    );
    expect(ran).toMatchObject({ code: 126, stderr: expect.stringMatching(/permission denied/) });
    await chmod(path.join(dir, "static"), 0o755);
  });
});

describe("a program that was built against a newer library", () => {
  it("fails as its loader says it", async () => {
    const dir = await makeTempDir("versions");
    const library = path.join(dir, "libv.so.1");
    await writeFile(path.join(dir, "new.map"), "V_1.0 { global: one; };\nV_1.1 { global: two; } V_1.0;\n");
    await writeFile(path.join(dir, "old.map"), "V_1.0 { global: one; };\n");
    const link = (map: string) => [
      "-shared",
      "-fPIC",
      "-Wl,-soname,libv.so.1",
      `-Wl,--version-script=${path.join(dir, map)}`,
    ];
    compile("int one(void) { return 0; } int two(void) { return 0; }", library, ...link("new.map"));
    compile("int two(void); int main(void) { return two(); }", path.join(dir, "app"), library);
    const newer = { path: "lib64/libv.so.1", content: readFileSync(library), mode: 0o755 };
    compile("int one(void) { return 0; }", library, ...link("old.map"));
    const older = { ...newer, content: readFileSync(library) };
    const tree = [...glibcTree, hostFile(path.join(dir, "app"), "/app")];
    const config = { Cmd: ["/app"], Env: ["LD_LIBRARY_PATH=/lib64"] };

    const good = await makeFixture([...tree, newer], config);
    expectNoFailure(await good.examine({ deps: true }));
    expect(await good.check("symbol-versions", { deps: true })).toMatchObject([
      { status: "ok", path: "/app" },
    ]);
    expect(await good.run()).toMatchObject({ code: 0 });

    const bad = await makeFixture([...tree, older], config);
    expect(await bad.check("symbol-versions", { deps: true })).toMatchObject([
      {
        status: "fail",
        path: "/app",
        detail:
          'needs V_1.1 of libv.so.1, and /lib64/libv.so.1 is older (the loader will say "version `V_1.1\' not found")',
      },
    ]);
    const ran = await bad.run();
    expect(ran.stderr).toMatch(/version `V_1\.1' not found/);
    expect(ran.stderr).toMatch(/skim: it did not start: FAIL symbol-versions \/app/);
    expect(ran.code).toBe(1);
  });
});
