import { execFile } from "node:child_process";
import { mkdir, stat, symlink } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { resolveSettings } from "../../src/base/settings.js";
import { DaemonClient } from "../../src/control/daemon-client.js";
import { mountRootfs } from "../../src/control/host.js";
import { findMount } from "../../src/fuse/mount-table.js";
import { DaemonHost } from "../support/daemon-host.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type ControlImages, startControlImages } from "./control-images.js";

const exec = promisify(execFile);

/** What everything of a daemon is asked through. */
describe("the daemon's API", () => {
  let dir: string;
  let host: DaemonHost;
  let images: ControlImages;
  let image: string;

  beforeAll(async () => {
    dir = await makeTempDir("api");
    images = await startControlImages(dir, { images: 2 });
    image = images.names[0]!;
    host = await DaemonHost.make();
    await host.start(["--metrics", "127.0.0.1:0"]);
  });

  afterAll(async () => await images.registry.close());

  it("takes an image by its name, indexes it, and gives a rootfs that can be used and undone", async () => {
    const rootfs = await host.client.createRootfs({ id: "job-1", image });
    expect((await exec("cat", [`${rootfs.merged}/name`])).stdout).toBe("image 0\n");
    await exec("sh", ["-c", 'echo mine > "$1"/new', "sh", rootfs.merged]);
    expect((await exec("cat", [`${rootfs.upper}/new`])).stdout).toBe("mine\n");
    expect(await host.client.list("rootfs")).toMatchObject([
      { id: "job-1", kind: "rootfs", alive: true, imageId: rootfs.imageId },
    ]);
    expect(await host.client.list("image")).toMatchObject([{ id: rootfs.imageId, users: ["job-1"] }]);
    expect(await host.client.health()).toMatchObject({ status: "ok", images: 1, rootfs: 1, pending: 0 });
    expect(await host.client.ready()).toEqual({ ready: true });

    const stats = await host.client.stats("job-1");
    expect(stats.id).toBe("job-1");
    expect(stats.operations.read).toBeGreaterThan(0);
    expect(stats.registry.requests).toBeGreaterThan(0);
    expect((await host.client.stats(rootfs.imageId)).imageBytes).toBe(stats.imageBytes);
    expect(Object.keys(await host.client.profiles("job-1"))).not.toEqual([]);

    const lines = (await host.client.logs(rootfs.imageId)).trimEnd().split("\n");
    for (const line of lines) expect(JSON.parse(line)).toMatchObject({ mount: rootfs.imageId });
    expect((await host.client.logs(rootfs.imageId, 1)).trimEnd().split("\n")).toEqual(lines.slice(-1));

    expect(await host.client.remove("job-1", { keepUpper: true })).toEqual({
      id: "job-1",
      upper: rootfs.upper,
    });
    expect((await exec("cat", [`${rootfs.upper}/new`])).stdout).toBe("mine\n");
    expect(findMount(rootfs.merged)).toBeUndefined();
    await exec("rm", ["-r", path.dirname(rootfs.upper)]);
  });

  it("shows an image at a directory, read-only, and takes it away", async () => {
    const directory = path.join(dir, "shown");
    await mkdir(directory);
    const mount = await host.client.createMount({ id: "shown", image, directory });
    expect(mount).toMatchObject({ id: "shown", mountpoint: directory });
    expect((await exec("cat", [`${directory}/name`])).stdout).toBe("image 0\n");
    await expect(exec("touch", [`${directory}/new`])).rejects.toThrow(/Read-only/);
    expect((await host.client.list("mount")).map(({ id }) => id)).toEqual(["shown"]);
    await host.client.remove("shown");
    expect(findMount(directory)).toBeUndefined();
    await expect(host.client.remove("shown")).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  it("warms an image: then all of it is read without the registry", async () => {
    const warmed = images.names[1]!;
    const layers = new Set<string>();
    const presence = await host.client.warm({ image: warmed }, (layer) => layers.add(layer));
    expect(presence.presentCompressedBytes).toBe(presence.compressedBytes);
    expect(layers.size).toBeGreaterThan(0);
    const { lower } = await host.client.createRootfs({ id: "warm", image: warmed });
    const before = images.registry.counters.blobRequests;
    await exec("sha256sum", ["-c", "sums"], { cwd: lower });
    expect(images.registry.counters.blobRequests).toBe(before);
    await host.client.remove("warm");
    await expect(host.client.warm({ image: "/no/such/archive" })).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
  });

  it("is undone at the end of the block that has it with await using", async () => {
    const settings = resolveSettings({ cacheDir: host.skim.cacheDir, runDir: host.skim.runDir });
    let merged: string;
    {
      await using rootfs = await mountRootfs({ image, id: "scoped", settings });
      merged = rootfs.merged;
      expect((await exec("cat", [`${merged}/name`])).stdout).toBe("image 0\n");
      expect((await host.client.list("rootfs")).map(({ id }) => id)).toEqual(["scoped"]);
    }
    expect(findMount(merged)).toBeUndefined();
    expect(await host.client.list("rootfs")).toEqual([]);
  });

  it("refuses what it cannot make sense of with a code and a reason, and goes on", async () => {
    const rootfs = (fields: object) => JSON.stringify({ id: "a", image, ...fields });
    const cases: [string, string, string | undefined, number, string, RegExp][] = [
      ["POST", "/v1/rootfs", rootfs({ uper: "/x" }), 400, "USAGE", /uper/],
      ["POST", "/v1/rootfs", rootfs({ upper: "here" }), 400, "USAGE", /upper.*absolute/],
      ["POST", "/v1/rootfs", rootfs({ merged: "../here" }), 400, "USAGE", /merged.*absolute/],
      ["POST", "/v1/rootfs", rootfs({ id: "../a" }), 400, "USAGE", /id/],
      ["POST", "/v1/rootfs", rootfs({ id: "a".repeat(65) }), 400, "USAGE", /id/],
      ["POST", "/v1/rootfs", rootfs({ id: 7 }), 400, "USAGE", /id/],
      ["POST", "/v1/rootfs", rootfs({ upper: "/a", tmpfsUpper: true }), 400, "USAGE", /exclude each other/],
      ["POST", "/v1/rootfs", rootfs({ dirs: [{ path: "/a", mode: 0o10000 }] }), 400, "USAGE", /dirs/],
      ["POST", "/v1/rootfs", rootfs({ image: "archive.skim:x:y" }), 400, "USAGE", /archive/],
      ["POST", "/v1/rootfs", rootfs({ image: "/no/such/file" }), 404, "NOT_FOUND", /no archive/],
      ["POST", "/v1/rootfs", "{", 400, "USAGE", /JSON/],
      ["POST", "/v1/rootfs", "null", 400, "USAGE", /./],
      ["POST", "/v1/rootfs", undefined, 400, "USAGE", /./],
      ["POST", "/v1/mounts", JSON.stringify({ id: "a", image, directory: "x" }), 400, "USAGE", /directory/],
      ["GET", "/v1/mounts?kind=others", undefined, 400, "USAGE", /kind/],
      ["GET", "/v1/mounts/none/stats", undefined, 404, "NOT_FOUND", /none/],
      ["GET", "/v1/mounts/..%2f..%2fetc/stats", undefined, 400, "USAGE", /id/],
      ["GET", "/v1/mounts/a/logs?lines=0", undefined, 400, "USAGE", /lines/],
      ["GET", "/v1/profiles/none", undefined, 404, "NOT_FOUND", /none/],
      ["DELETE", "/v1/mounts/none", undefined, 404, "NOT_FOUND", /none/],
      ["DELETE", "/v1/mounts/none?force=maybe", undefined, 400, "USAGE", /force/],
      ["POST", "/v1/gc?remove=perhaps", undefined, 400, "USAGE", /remove/],
      ["POST", "/v1/shutdown", JSON.stringify({ force: "yes" }), 400, "USAGE", /force/],
      ["GET", "/v2/health", undefined, 404, "NOT_FOUND", /openapi/],
      ["PUT", "/v1/rootfs", rootfs({}), 405, "USAGE", /POST/],
      ["DELETE", "/v1/health", undefined, 405, "USAGE", /GET/],
    ];
    for (const [method, url, body, status, code, message] of cases) {
      const answer = await host.ask(method, url, body);
      expect(answer, `${method} ${url} ${body}`).toMatchObject({ status, body: { code } });
      expect(answer.body.message, `${method} ${url} ${body}`).toMatch(message);
    }
    expect(await host.client.list()).toEqual(await host.client.list("image"));
    const notJson = await host.ask("POST", "/v1/rootfs", rootfs({}), { "content-type": "text/plain" });
    expect(notJson).toMatchObject({ status: 415, body: { code: "USAGE" } });
  });

  it("takes no body of more than a megabyte, and none of a length that nobody knows", async () => {
    // Before any of it is sent.
    const announced = await host.ask("POST", "/v1/rootfs", undefined, { "content-length": 1_100_000 });
    expect(announced).toMatchObject({ status: 413, body: { code: "USAGE" } });
    const pieces = await host.ask("POST", "/v1/rootfs", "{}", { "transfer-encoding": "chunked" });
    expect(pieces).toMatchObject({ status: 411, body: { code: "USAGE" } });
    expect(await host.client.ready()).toEqual({ ready: true });
  });

  it("listens for root alone, and on TCP for the metrics alone", async () => {
    const socket = await stat(path.join(host.skim.runDir, "daemon.sock"));
    expect(socket.mode & 0o777).toBe(0o600);
    expect((await stat(host.skim.runDir)).mode & 0o077).toBe(0);
    const line = host.lines.map((each) => JSON.parse(each)).find(({ msg }) => msg?.includes("over TCP"));
    const port = Number(/:(\d+)$/.exec(line.address)?.[1]);
    expect(await listeningPorts(await host.pid())).toEqual([port]);
    const health = await fetch(`http://127.0.0.1:${port}/v1/health`);
    expect(health.status).toBe(404);

    const quiet = await DaemonHost.make();
    await quiet.start();
    expect(await listeningPorts(await quiet.pid())).toEqual([]);
    await quiet.shutdown();
    expect(await quiet.leftovers()).toEqual([]);
  });

  it("has a function in the client for each operation of its OpenAPI document, and none besides", async () => {
    const document = await host.client.openApi();
    expect(document.openapi).toBe("3.1.0");
    const operations = Object.entries(
      document.paths as Record<string, Record<string, { operationId?: string }>>,
    ).flatMap(([url, methods]) =>
      Object.entries(methods).map(([method, { operationId }]) => ({ url, method, operationId })),
    );
    const named = operations.map(({ operationId }) => operationId);
    // The document describes itself.
    const others = ["constructor", "openApi"];
    const functions = Object.getOwnPropertyNames(DaemonClient.prototype).filter(
      (name) => !others.includes(name),
    );
    expect([...named].sort()).toEqual([...functions].sort());
  });

  it("takes no more mounts when it is drained, and ends when it is told to: with rootfs only by force", async () => {
    const draining = await DaemonHost.make();
    await draining.start();
    const rootfs = await draining.client.createRootfs({ id: "stays", image });
    expect(await draining.client.drain()).toMatchObject({ draining: true, rootfs: 1 });
    expect(await draining.client.ready()).toEqual({ ready: false, why: "draining" });
    await expect(draining.client.createRootfs({ id: "late", image })).rejects.toMatchObject({ code: "BUSY" });
    expect((await exec("cat", [`${rootfs.merged}/name`])).stdout).toBe("image 0\n");
    await expect(draining.client.shutdown()).rejects.toMatchObject({ code: "IN_USE" });
    expect((await draining.health())?.status).toBe("ok");
    await draining.shutdown(true);
    expect(await draining.leftovers()).toEqual([]);
  });

  it("is found through a run directory that is a symlink", async () => {
    const link = path.join(dir, "run-link");
    await symlink(host.skim.runDir, link);
    const listed = await host.skim.json<{ id: string }[]>(["ps", "--run-dir", link]);
    expect(listed.map(({ id }) => id).sort()).toEqual((await host.client.list()).map(({ id }) => id).sort());
    const mounted = await host.skim.json<{ lower: string }>([
      "rootfs",
      "mount",
      image,
      "--id",
      "linked",
      "--run-dir",
      link,
    ]);
    expect(mounted.lower.startsWith(host.skim.runDir)).toBe(true);
    await host.skim.ok(["rootfs", "umount", "linked", "--run-dir", link]);
    expect(await host.client.list("rootfs")).toEqual([]);
  });
});

/** TCP ports on which a process listens. */
async function listeningPorts(pid: number): Promise<number[]> {
  const { stdout } = await exec("ss", ["-Htlnp"]);
  return stdout
    .split("\n")
    .filter((line) => line.includes(`pid=${pid},`))
    .map((line) => Number(/:(\d+)$/.exec(line.trim().split(/\s+/)[3]!)?.[1]));
}
