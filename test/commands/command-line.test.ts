import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, readdir, symlink } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { writeTestImage } from "../support/oci-layout.js";
import { cliFile, makeSkimHost, resultOf, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

/** What a user meets who mistypes, is not root, or interrupts. */
describe("the command line", () => {
  let host: SkimHost;
  let image: string;
  let archive: string;

  beforeAll(async () => {
    const dir = await makeTempDir("command-line");
    host = await makeSkimHost();
    await writeTestImage(path.join(dir, "image"), [
      {
        tar: buildTar([
          { path: "etc/", type: "directory" },
          { path: "etc/hello", content: "hello\n" },
        ]),
      },
    ]);
    image = `oci:${path.join(dir, "image")}`;
    archive = path.join(dir, "image.skim");
    await host.ok(["index", image, "-o", archive]);
  });

  it("reaches registries through the proxy of the environment", async () => {
    const asked: string[] = [];
    const proxy = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      response.writeHead(404).end();
    });
    proxy.on("connect", (request, socket) => {
      asked.push(`CONNECT ${request.url}`);
      socket.end("HTTP/1.1 403 Forbidden\r\n\r\n");
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    const { port } = proxy.address() as AddressInfo;
    const url = `http://127.0.0.1:${port}`;
    const ran = await host.run(["index", "registry.test/app:v1"], {
      env: {
        HTTPS_PROXY: url,
        https_proxy: url,
        HTTP_PROXY: url,
        http_proxy: url,
        NO_PROXY: "",
        no_proxy: "",
      },
    });
    proxy.close();
    expect(ran.code).not.toBe(0);
    expect(asked[0]).toBe("CONNECT registry.test:443");
  });

  it("takes one registry behind --insecure-registry, and the image behind that", async () => {
    const { layers } = JSON.parse(
      await host.ok([
        "index",
        "--insecure-registry",
        "a.test",
        "--insecure-registry",
        "b.test",
        image,
        "--json",
      ]),
    );
    expect(layers).toBe(1);
    expect(await host.ok(["cat", "--insecure-registry", "a.test", archive, "/etc/hello"])).toBe("hello\n");
  });

  it("says in one line what is wrong with a command line", async () => {
    const cases: [string[], number, RegExp][] = [
      [["rnu"], 2, /unknown command 'rnu'.*run/],
      [["registry", "serve", "/tmp"], 2, /oci:DIR/],
      // 125, so that it is not taken for the exit code of the container.
      [["run", archive, "--runtime", "other"], 125, /runc, crun, runsc/],
      [["run", archive, "--dir", "relative"], 125, /not absolute/],
      [["profile", "record", archive, "ls", "-l"], 125, /goes behind --/],
      [["run", archive, "--env", "=value", "--", "true"], 125, /=value/],
      [["run", archive, "ls", "-la"], 125, /'-la'.*behind --/],
    ];
    for (const [args, code, text] of cases) {
      const result = await host.run(args);
      expect(result.stderr).toMatch(text);
      expect(result.stderr).toMatch(/^skim: USAGE: [^\n]+\n$/);
      expect(result.code).toBe(code);
    }
  });

  it("tells who is not root to be it, and no more than that", async () => {
    const mountpoint = await makeTempDir("mnt");
    await mkdir(host.runDir, { recursive: true, mode: 0o700 });
    const asNobody = async (...args: string[]) => {
      const nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", process.execPath, cliFile];
      return await resultOf(spawn("setpriv", [...nobody, ...args], { env: host.env }));
    };
    // What the records are in is closed to others, what they would read is not.
    await Promise.all([path.dirname(archive), path.dirname(host.runDir)].map((dir) => chmod(dir, 0o755)));
    for (const args of [["mount", archive, mountpoint], ["umount", "some-id"], ["ps"]]) {
      const result = await asNobody(...args);
      expect(result.stderr).toMatch(/^skim: ENVIRONMENT: .*run skim as root[^\n]*\n$/);
      expect(result.code).toBe(9);
    }
    expect((await asNobody("run", archive, "--", "true")).code).toBe(125);
    expect((await asNobody("ls", archive, "/etc")).stdout).toBe("hello\n");
  });

  it("unmounts by a symlink to the mount point, also when the server is dead", async () => {
    const mountpoint = await makeTempDir("mnt");
    const link = path.join(await makeTempDir("link"), "link");
    await symlink(mountpoint, link);
    await host.ok(["mount", archive, link]);
    await host.ok(["umount", link]);
    const { pid } = await host.json<{ pid: number }>(["mount", archive, link]);
    process.kill(pid, "SIGKILL");
    await host.ok(["umount", link]);
    expect(await host.leftovers()).toEqual([]);
  });

  it("ends a mount in the foreground with exit code 0 when it is unmounted from elsewhere", async () => {
    const mountpoint = await makeTempDir("foreground");
    const child = host.start(["mount", archive, mountpoint, "--foreground", "--id", "foreground"]);
    const ended = resultOf(child);
    await once(child.stdout!, "data");
    await host.ok(["umount", "foreground"]);
    expect(await ended).toMatchObject({ code: 0, signal: null, stderr: "" });
  });

  it("keeps a mount in the foreground that is in use at the first interrupt, says so, and takes it away at the second", async () => {
    const mountpoint = await makeTempDir("mnt");
    const child = host.start(["mount", archive, mountpoint, "--foreground"]);
    const result = resultOf(child);
    await once(child.stdout!, "data");
    const holder = spawn("sleep", ["60"], { cwd: path.join(mountpoint, "etc") });
    await once(holder, "spawn");
    try {
      child.kill("SIGINT");
      expect(await firstText(child)).toMatch(/sleep.*interrupt again/);
      child.kill("SIGINT");
      expect((await result).code).toBe(0);
    } finally {
      holder.kill("SIGKILL");
    }
    expect(await host.leftovers()).toEqual([]);
    expect(await readdir(mountpoint)).toEqual([]);
  });
});

async function firstText(child: ChildProcess): Promise<string> {
  const [chunk] = await once(child.stderr!, "data");
  return String(chunk);
}
