import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { ExaminedCheck } from "../../src/doctor/examine.js";
import { explainFailure } from "../../src/doctor/explain.js";
import { symptomsOf } from "../../src/doctor/symptoms.js";
import type { RanImage } from "../../src/mount/run-image.js";
import { makeTempDir } from "../support/temp-dir.js";
import { busyboxTree, type Fixture, fixtureHost, glibcTree, hostFile, makeFixture } from "./fixture-image.js";

const env = ["PATH=/bin:/usr/bin"];

/** What runtimes, loaders and shells say, word by word, and what it is a symptom of. */
const words: [said: string, symptom: string][] = [
  ["exec /app: no such file or directory", "exec-missing"],
  ["standard_init_linux.go:228: exec user process caused: no such file or directory", "exec-missing"],
  ["exec /app: exec format error", "format"],
  ["standard_init_linux.go:228: exec user process caused: exec format error", "format"],
  ['runc run failed: unable to start container process: exec: "/app": permission denied', "exec-denied"],
  [
    'unable to start container process: exec: "serve": executable file not found in $PATH',
    "not-found-on-path",
  ],
  ["crun: executable file `serve` not found in $PATH: No such file or directory", "not-found-on-path"],
  [
    'starting container: starting root container: finding executable: error finding executable "serve" in PATH []',
    "not-found-on-path",
  ],
  ["failed to load /app: no such file or directory", "exec-missing"],
  [
    'error mounting "proc" to rootfs at "/proc": filesystem "proc" must be mounted on ordinary directory',
    "kernel-mount",
  ],
  [
    'error mounting "/a" to rootfs at "/b": mount /a:/b (via /proc/self/fd/6), flags: 0x5000: not a directory',
    "mount",
  ],
  ["possibly malicious path detected -- wandered into deleted directory", "deleted-directory"],
  ["unable to find user web: no matching entries in passwd file", "user"],
  ['cannot run as "web": user "web" is not in the image\'s /etc/passwd', "user"],
  ["Error loading shared library libssl.so.3: No such file or directory (needed by /app)", "library"],
  [
    "/app: error while loading shared libraries: libssl.so.3: cannot open shared object file: No such file or directory",
    "library",
  ],
  [
    "/app: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /app)",
    "symbol-version",
  ],
  ["Error relocating /app: __res_init: symbol not found", "symbol"],
  ["/usr/bin/env: ‘python3’: No such file or directory", "env-target"],
  ["env: can't execute 'python3': No such file or directory", "env-target"],
  ["sh: tar: not found", "tool"],
  ["bash: line 1: tar: command not found", "tool"],
  ["/bin/sh: 1: tar: not found", "tool"],
  ["./run.sh: line 2: $'\\r': command not found", "carriage-return"],
  ["bash: ./run.sh: /bin/sh^M: bad interpreter: No such file or directory", "carriage-return"],
  ['chdir to cwd ("/work") set in config.json failed: permission denied', "working-directory"],
  ["directory /work cannot be made in the upper dir: the image has /work, which is not a directory", "seed"],
  ['exec: "/app": stat /app: too many levels of symbolic links', "loop"],
  ["curl: (60) SSL certificate problem: unable to get local issuer certificate", "certificates"],
  ["x509: certificate signed by unknown authority", "certificates"],
  ["runtime: out of memory", "killed"],
  ["Segmentation fault (core dumped)", "segmentation-fault"],
  // As seen of crun 1.8 and runsc 2022-12.
  ["exec container process (missing dynamic library?) `/cr`: No such file or directory", "exec-missing"],
  ["exec container process `/text`: Exec format error", "format"],
  ["exec container process `/prog`: Permission denied", "exec-denied"],
  ["exec container process `/loop`: Too many levels of symbolic links", "loop"],
  ["exec container process `/app`: Accessing a corrupted shared library", "loader-format"],
  ["exec container process `/app`: Input/output error", "loader-format"],
  ["open executable: Operation not permitted", "exec-denied"],
  ["open executable: Permission denied", "exec-denied"],
  ["starting sandbox: creating process: failed to load /app: no such file or directory", "exec-missing"],
  ["starting sandbox: creating process: failed to load /app: permission denied", "exec-denied"],
  ["starting sandbox: creating process: failed to load /app: exec format error", "format"],
  ["starting sandbox: creating process: failed to load /app: too many symbolic links encountered", "loop"],
  ["creating process: failed to load /app: accessing a corrupted shared library", "loader-format"],
  ['error finding executable "a" in PATH [/b]: too many symbolic links encountered', "not-found-on-path"],
];

describe("what a failed start says", () => {
  it.each(words)("%s", (said, symptom) => {
    expect(symptomsOf(said, 1)[0]?.id).toBe(symptom);
  });

  it("is told by the exit code alone, where nothing was said", () => {
    expect([126, 127, 135, 137, 139, 1, 2, 3].map((code) => symptomsOf("", code)[0]?.id)).toEqual([
      "not-executable",
      "not-found",
      "bus-error",
      "killed",
      "segmentation-fault",
      "not-started",
      "not-started",
      undefined,
    ]);
  });
});

describe("the check that explains it", () => {
  const check = (id: string, path: string, status: "warn" | "fail" = "fail"): ExaminedCheck => ({
    ...{ id, path, status, detail: "", bytesRead: 0 },
  });

  it("is the one that what was said names, else the first that a start comes to", () => {
    const checks = [
      check("tool", "tar"),
      check("interp", "/b"),
      check("interp", "/a"),
      check("user", '"web"'),
    ];
    const cause = (output: string) => explainFailure(checks, { output }).cause?.path;
    expect(cause("exec /a: no such file or directory")).toBe("/a");
    expect(cause("exec /other: no such file or directory")).toBe("/b");
    expect(cause("sh: tar: not found")).toBe("tar");
    expect(explainFailure(checks, { exitCode: 125 }).cause?.path).toBe('"web"');
    expect(explainFailure(checks, {}).cause?.path).toBe('"web"');
    expect(explainFailure(checks, { exitCode: 125 }).alsoFailed).toHaveLength(3);
  });

  it("is none where no check is about it; then it is told what was looked at, and whether trying again may help", () => {
    const checks = [check("tmp", "/tmp", "warn"), check("certificates", "/etc/ssl/certs", "warn")];
    expect(explainFailure(checks, { exitCode: 137 })).toMatchObject({
      cause: undefined,
      lookedAt: [],
      retryHelps: true,
    });
    expect(explainFailure(checks, { output: "exec /a: exec format error" })).toMatchObject({
      cause: undefined,
      lookedAt: ["arch-program", "format", "arch", "script", "arch-shell"],
      retryHelps: false,
    });
    expect(explainFailure(checks, { exitCode: 1 }).cause).toBeUndefined();
    expect(
      explainFailure(checks, { output: "x509: certificate signed by unknown authority" }).cause?.id,
    ).toBe("certificates");
    expect(explainFailure(checks, { output: "open /tmp/x: permission denied" }).cause?.id).toBe("tmp");
  });
});

describe("skim explain", () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await makeFixture([...busyboxTree("sh"), ...glibcTree, hostFile("/usr/bin/ls", "/app")], {
      Cmd: ["/app"],
      Env: env,
    });
  });

  it("finds the missing library that a loader names, and says that trying again is no use", async () => {
    const host = await fixtureHost();
    const said =
      "/app: error while loading shared libraries: libselinux.so.1: cannot open shared object file";
    const { code, stdout } = await host.run(
      ["explain", fixture.image, "--exit-code", "127", "--stderr", "-"],
      { input: said },
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(/^seen: the loader did not find a library/);
    expect(stdout).toMatch(/^FAIL libraries \/app: needs libselinux\.so\.1, in none of /m);
    expect(stdout).toMatch(/^trying again cannot help/m);
  });

  it("looks for the program that a shell did not find", async () => {
    const host = await fixtureHost();
    const file = path.join(await makeTempDir("said"), "stderr");
    await writeFile(file, "sh: 1: tar: not found\n");
    const explained = await host.json(["explain", fixture.image, "--stderr", file]);
    expect(explained).toMatchObject({
      cause: { id: "tool", path: "tar", status: "fail" },
      retryHelps: false,
    });
  });

  it("says so where nothing explains it, with what it has looked at", async () => {
    const host = await fixtureHost();
    const busybox = await makeFixture(busyboxTree("sh"), { Cmd: ["sh"], Env: env });
    const { code, stdout } = await host.run(["explain", busybox.image, "--exit-code", "126"]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^no check explains it; looked at: executable, format, arch-program, /m);
    const killed = await host.run(["explain", busybox.image, "--exit-code", "137"]);
    expect(killed.stdout).toMatch(/^seen: it was killed \(SIGKILL\)/);
    expect(killed.stdout).toMatch(/^no check explains it: nothing that was seen is a matter of the image$/m);
    expect((await host.run(["explain", "oci:/no/such"])).code).toBe(3);
  });

  it("explains a bundle of ours by its id, as its config.json has it", async () => {
    const host = await fixtureHost();
    const bundle = path.join(await makeTempDir("bundle"), "b");
    const injected = path.join(await makeTempDir("data"), "node");
    await mkdir(injected);
    await host.ok([
      ...["bundle", fixture.image, bundle, "--id", "explained", "--user", "1000"],
      ...["--mount", `type=bind,source=${injected},target=/data`, "--", "/root/tool"],
    ]);
    expect(JSON.parse(await readFile(path.join(bundle, "config.json"), "utf8")).process.user.uid).toBe(1000);
    const { code, stdout } = await host.run(["explain", "explained", "--exit-code", "126"]);
    expect(stdout).toMatch(
      /^FAIL executable \/root\/tool: the directory that has tool may not be searched by user 1000/m,
    );
    expect(code).toBe(0);
    await host.ok(["rootfs", "umount", "explained"]);
    // Of a user's supplementary groups too.
    const grouped = await makeFixture(
      [...busyboxTree("sh"), { path: "app", content: "#!/bin/sh\nexit 1\n", mode: 0o750, gid: 50 }],
      { Cmd: ["/app"], User: "app", Env: env },
    );
    await host.ok(["bundle", grouped.image, `${bundle}2`, "--id", "grouped"]);
    const none = await host.run(["explain", "grouped", "--exit-code", "126"]);
    expect(none.stdout).toMatch(/^no check explains it/m);
    await host.ok(["rootfs", "umount", "grouped"]);
    expect((await host.run(["explain", "explained", "--exit-code", "126"])).code).toBe(3);
  });
});

describe("skim run", () => {
  it("says by itself why a start came to nothing, once, and keeps the runtime's words first", async () => {
    const host = await fixtureHost();
    const fixture = await makeFixture([...busyboxTree("sh"), hostFile("/usr/bin/true", "/app")], {
      Cmd: ["/app"],
      Env: env,
    });
    const stats = path.join(await makeTempDir("stats"), "stats.json");
    const { code, stderr } = await fixture.run("--stats", stats);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /exec \/app: no such file or directory\n(.*\n)*skim: it did not start: FAIL interp \/app: needs /,
    );
    expect(stderr.match(/exec \/app/g)).toHaveLength(1);
    const ran = JSON.parse(await readFile(stats, "utf8")) as RanImage;
    expect(ran).toMatchObject({ exitCode: 1, cause: { id: "interp", status: "fail" } });
    expect(await host.leftovers()).toEqual([]);
  });

  it("says nothing where the program itself has failed", async () => {
    const fixture = await makeFixture(busyboxTree("sh"), { Cmd: ["sh"], Env: env });
    for (const script of ["exit 1", "exit 2", "exit 139", "exit 127", "nosuch", "cat /nosuch", "exit 255"]) {
      const { code, stderr } = await fixture.run("--", "sh", "-c", script);
      expect(code).not.toBe(0);
      expect(stderr).not.toMatch(/skim:/);
    }
  });
});
