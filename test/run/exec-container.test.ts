import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { open, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { runtimeNames } from "../../src/runtime/runtime-command.js";
import { writeTestImage } from "../support/oci-layout.js";
import { cliFile, makeSkimHost, resultOf, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

/** Further processes in a container of `skim run`, from other processes. */
describe.each(runtimeNames)("skim exec under %s", (runtime) => {
  let host: SkimHost;
  let archive: string;
  // gVisor's sockets have the id alone for a name, whatever the run directory is.
  const id = `exec-${process.pid}`;

  beforeAll(async () => {
    const dir = await makeTempDir("exec");
    host = await makeSkimHost();
    const layout = path.join(dir, "image");
    const applets = ["sh", "id", "cat", "echo", "sleep", "env", "pwd", "kill", "mkfifo"];
    const tar = buildTar([
      { path: "bin/", type: "directory" },
      { path: "bin/busybox", content: await readFile("/bin/busybox"), mode: 0o755 },
      ...applets.map((name) => ({ path: `bin/${name}`, type: "hardlink" as const, link: "bin/busybox" })),
      { path: "tmp/", type: "directory", mode: 0o1777 },
      { path: "etc/", type: "directory" },
      { path: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/home/app:/bin/sh\n" },
    ]);
    await writeTestImage(layout, [{ tar }], { config: { Env: ["PATH=/bin", "A=image"], User: "app" } });
    archive = path.join(dir, "image.skim");
    await host.ok(["index", `oci:${layout}`, "-o", archive]);
  });

  it("does what the process of the container could do, and exits as its own does", async () => {
    const child = host.start([
      "run",
      "--id",
      id,
      "--runtime",
      runtime,
      "--env",
      "B=run",
      archive,
      "--",
      "sh",
      "-c",
      "echo ready; exec sleep 1000",
    ]);
    await once(child.stdout!, "data");
    const ended = resultOf(child);
    try {
      const exec = (args: string[], input?: string) =>
        host.run(["exec", ...args], input === undefined ? {} : { input });
      const same = await exec(
        [id, "--", "sh", "-c", "id -u; pwd; echo $A $B $HOME; cat; exit 4"],
        "from outside\n",
      );
      expect(same).toEqual({
        code: 4,
        signal: null,
        stdout: "1234\n/\nimage run /home/app\nfrom outside\n",
        stderr: "",
      });
      const options = ["--user", "root", "--env", "C=exec", "--workdir", "/tmp"];
      const other = await exec([...options, id, "--", "sh", "-c", "id -u; pwd; echo $C $HOME >&2"]);
      expect(other).toMatchObject({ code: 0, stdout: "0\n/tmp\n", stderr: "exec /root\n" });
      expect((await exec([id, "--", "nosuch"])).code).toBe(127);
      const refused = await exec(["--user", "nobody-here", id, "--", "sh"]);
      expect(refused.code).toBe(125);
      expect(refused.stderr).toMatch(/nobody-here/);
      const signalled = host.start([
        "exec",
        id,
        "--",
        "sh",
        "-c",
        "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.1; done",
      ]);
      await once(signalled.stdout!, "data");
      const result = resultOf(signalled);
      signalled.kill("SIGTERM");
      expect(await result).toMatchObject({ code: 3, stdout: "got it\n" });
    } finally {
      await host.run(["rootfs", "umount", id, "--force"]);
    }
    await ended;
    expect(await host.leftovers()).toEqual([]);
  });

  it("writes to files of others behind what they have written", async () => {
    const log = path.join(await makeTempDir("log"), "log");
    const file = await open(log, "w");
    const write = async (args: string[]) => {
      const child = spawn(process.execPath, [cliFile, ...args], {
        env: host.env,
        stdio: ["ignore", file.fd, file.fd],
      });
      await once(child, "exit");
    };
    try {
      await file.write("before\n");
      const script = `echo one; echo two >&2; echo ready >/tmp/ready; read line </tmp/go; echo three`;
      const options = ["--id", id, "--runtime", runtime];
      const ran = write(["run", ...options, archive, "--", "sh", "-c", `mkfifo /tmp/go; ${script}`]);
      await expect
        .poll(async () => (await host.run(["exec", id, "--", "cat", "/tmp/ready"])).stdout, {
          timeout: 10_000,
        })
        .toBe("ready\n");
      await write(["exec", id, "--", "sh", "-c", "echo exec; echo go >/tmp/go"]);
      await ran;
      await file.write("after\n");
    } finally {
      await file.close();
    }
    expect((await readFile(log, "utf8")).split("\n").sort()).toEqual(
      ["", "before", "one", "two", "exec", "three", "after"].sort(),
    );
    expect(await host.leftovers()).toEqual([]);
  });

  it("knows the users that the container has now", async () => {
    const child = host.start([
      ...["run", "--id", id, "--runtime", runtime, "--user", "0", archive, "--", "sh", "-c"],
      "echo late:x:77:78::/late: >>/etc/passwd; echo extra:x:79:late >/etc/group; echo ready; exec sleep 1000",
    ]);
    await once(child.stdout!, "data");
    const ended = resultOf(child);
    try {
      const whoIs = async (user: string) =>
        await host.run(["exec", "--user", user, id, "--", "sh", "-c", "id -u; id -g; id -G; echo $HOME"]);
      expect(await whoIs("late")).toMatchObject({ code: 0, stdout: "77\n78\n78 79\n/late\n", stderr: "" });
      expect(await whoIs("app:extra")).toMatchObject({ stdout: "1234\n79\n79\n/home/app\n" });
      const unknown = await whoIs("nobody-here");
      expect(unknown).toMatchObject({
        code: 125,
        stderr: expect.stringMatching(/the container's \/etc\/passwd/),
      });
    } finally {
      await host.run(["rootfs", "umount", id, "--force"]);
    }
    await ended;
    expect(await host.leftovers()).toEqual([]);
  });

  it("starts nothing after a signal that came before it was ready to", async () => {
    const run = host.start([
      "run",
      "--id",
      id,
      "--runtime",
      runtime,
      archive,
      "--",
      "sh",
      "-c",
      "echo ready; exec sleep 1000",
    ]);
    await once(run.stdout!, "data");
    const ended = resultOf(run);
    try {
      // It waits for its container's config until somebody writes to this.
      const config = path.join(host.runDir, "bundles", id, "config.json");
      const text = await readFile(config, "utf8");
      await rm(config);
      execFileSync("mkfifo", [config]);
      const child = host.start(["exec", id, "--", "sh", "-c", "echo started; exec sleep 1000"]);
      const writer = await open(config, "w");
      const result = resultOf(child);
      child.kill("SIGTERM");
      await writer.write(text);
      await writer.close();
      expect(await result).toMatchObject({
        code: 130,
        stdout: "",
        stderr: expect.stringMatching(/^skim: CANCELLED/),
      });
    } finally {
      await host.run(["rootfs", "umount", id, "--force"]);
    }
    await ended;
    expect(await host.leftovers()).toEqual([]);
  });

  it("refuses a terminal where there is none", async () => {
    for (const words of [
      ["run", archive],
      ["exec", "absent"],
    ])
      expect(await host.run([words[0]!, "--tty", words[1]!, "--", "sh"])).toMatchObject({
        code: 125,
        stderr: "skim: USAGE: --tty: standard input is not a terminal; leave --tty out\n",
      });
  });

  it("refuses ids of no container", async () => {
    const result = await host.run(["exec", "absent", "--", "true"]);
    expect(result).toMatchObject({ code: 125, stderr: expect.stringMatching(/NOT_FOUND: .*absent/) });
  });
});
