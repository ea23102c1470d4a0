import { execFile } from "node:child_process";
import { symlink } from "node:fs/promises";
import { connect } from "node:net";
import path from "node:path";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { mediaTypes } from "../../src/image/media-types.js";
import { parseReference } from "../../src/image/reference.js";
import {
  type EmbeddedRegistryOptions,
  type ServedRequest,
  startEmbeddedRegistry,
} from "../../src/registry/embedded-registry.js";
import { openImageSource } from "../../src/registry/open-image-source.js";
import { putBlob, type TestLayer, writeTestImage } from "../support/oci-layout.js";
import { makeTempDir } from "../support/temp-dir.js";
import { closeAfterTest, failureOf, numberedBytes, openSource, readAll } from "./registry-trial.js";

const run = promisify(execFile);
const layer = { tar: numberedBytes(3_000_000), blob: numberedBytes(3_000_000) };

async function serveImage(options: Partial<EmbeddedRegistryOptions> = {}, layers: TestLayer[] = [layer]) {
  const dir = await makeTempDir("registry");
  const image = await writeTestImage(dir, layers);
  const registry = await startEmbeddedRegistry({ layout: dir, ...options });
  closeAfterTest(registry);
  const blobUrl = `${registry.url}/v2/x/blobs/${image.layerDigests[0]}`;
  return { dir, image, registry, blobUrl };
}

test("skim reads from it, ranges included, and it counts what it sent", async () => {
  const requests: ServedRequest[] = [];
  const { image, registry } = await serveImage({ onRequest: (request) => requests.push(request) });
  const source = openSource(registry, "any/name:latest");
  const resolved = await source.resolve();
  expect(resolved.manifestDigest).toBe(image.manifestDigest);
  const [blob] = resolved.layers;
  const sentBefore = registry.counters.bytesSent;
  const part = await readAll(source, blob!, { start: 1_000_000, end: 2_000_001 });
  expect(part.equals(layer.blob.subarray(1_000_000, 2_000_001))).toBe(true);
  expect(registry.counters.bytesSent - sentBefore).toBe(part.length);
  expect(registry.counters.rangeRequests).toBe(1);
  expect(registry.counters.blobRequests).toBe(2);
  expect(registry.counters.requests).toBe(source.counters.requests);
  await expect
    .poll(() => requests.at(-1))
    .toEqual({
      method: "GET",
      path: `/v2/any/name/blobs/${blob!.digest}`,
      range: "bytes=1000000-2000000",
      status: 206,
      bodyBytes: part.length,
    });
});

test("skopeo copies the image and lists its tags", async () => {
  const tar = numberedBytes(300_000);
  const { image, registry } = await serveImage({}, [{ tar }]);
  const to = await makeTempDir("skopeo");
  await run("skopeo", [
    "--insecure-policy",
    "copy",
    "--preserve-digests",
    "--src-tls-verify=false",
    `docker://${registry.host}/x:latest`,
    `oci:${to}:copied`,
  ]);
  const settings = { attemptTimeoutMs: 1000, insecureRegistries: [] };
  const source = openImageSource(parseReference(`oci:${to}:copied`), { settings });
  const copied = await source.resolve();
  expect(copied.manifestDigest).toBe(image.manifestDigest);
  expect(gunzipSync(await readAll(source, copied.layers[0]!)).equals(tar)).toBe(true);
  const { stdout } = await run("skopeo", ["list-tags", "--tls-verify=false", `docker://${registry.host}/x`]);
  expect(JSON.parse(stdout).Tags).toEqual(["latest"]);
});

test("manifests come by tag and digest with type and digest, HEAD like GET without the body", async () => {
  const { image, registry } = await serveImage();
  for (const name of ["latest", image.manifestDigest]) {
    for (const method of ["GET", "HEAD"]) {
      const response = await fetch(`${registry.url}/v2/a/b/manifests/${name}`, { method });
      expect(response.status).toBe(200);
      expect(response.headers.get("content-type")).toBe(mediaTypes.ociManifest);
      expect(response.headers.get("docker-content-digest")).toBe(image.manifestDigest);
      const length = Number(response.headers.get("content-length"));
      expect((await response.arrayBuffer()).byteLength).toBe(method === "GET" ? length : 0);
    }
  }
});

test.each([
  ["bytes=0-0", 206, 0, 1],
  ["bytes=100-199", 206, 100, 200],
  ["bytes=2999990-", 206, 2_999_990, 3_000_000],
  ["bytes=-7", 206, 2_999_993, 3_000_000],
  ["bytes=2999999-9999999", 206, 2_999_999, 3_000_000],
  ["bytes=0-1,5-6", 200, 0, 3_000_000],
  ["pages=1-2", 200, 0, 3_000_000],
])("Range %s is answered with %i and the right bytes", async (range, status, start, end) => {
  const { blobUrl } = await serveImage();
  for (const method of ["GET", "HEAD"]) {
    const response = await fetch(blobUrl, { method, headers: { range } });
    expect(response.status).toBe(status);
    expect(response.headers.get("accept-ranges")).toBe("bytes");
    expect(response.headers.get("content-length")).toBe(String(end - start));
    expect(response.headers.get("content-range")).toBe(
      status === 206 ? `bytes ${start}-${end - 1}/3000000` : null,
    );
    const body = Buffer.from(await response.arrayBuffer());
    expect(body.equals(method === "GET" ? layer.blob.subarray(start, end) : Buffer.alloc(0))).toBe(true);
  }
});

test("a range beyond the blob is 416 with the size, and If-Range of another blob gets everything", async () => {
  const { blobUrl } = await serveImage();
  const beyond = await fetch(blobUrl, { headers: { range: "bytes=3000000-" } });
  expect(beyond.status).toBe(416);
  expect(beyond.headers.get("content-range")).toBe("bytes */3000000");
  const etag = (await fetch(blobUrl, { method: "HEAD" })).headers.get("etag")!;
  const statusWith = async (ifRange: string) =>
    (await fetch(blobUrl, { method: "HEAD", headers: { range: "bytes=0-9", "if-range": ifRange } })).status;
  expect(await statusWith(etag)).toBe(206);
  expect(await statusWith('"another"')).toBe(200);
});

test("what is not there is 404 and what is not allowed 405, with the errors of the spec", async () => {
  const { registry, image } = await serveImage({ repository: "team/app" });
  const ask = async (path_: string, method = "GET") => {
    const response = await fetch(`${registry.url}${path_}`, { method });
    const body = (await response.json()) as { errors: Array<{ code: string }> };
    return [response.status, body.errors[0]?.code];
  };
  const zero = `sha256:${"0".repeat(64)}`;
  expect(await ask("/v2/team/app/manifests/nope")).toEqual([404, "MANIFEST_UNKNOWN"]);
  expect(await ask(`/v2/team/app/manifests/${zero}`)).toEqual([404, "MANIFEST_UNKNOWN"]);
  expect(await ask(`/v2/team/app/manifests/${image.layerDigests[0]}`)).toEqual([404, "MANIFEST_UNKNOWN"]);
  expect(await ask(`/v2/team/app/blobs/${zero}`)).toEqual([404, "BLOB_UNKNOWN"]);
  expect(await ask("/v2/team/app/blobs/..%2f..%2findex.json")).toEqual([404, "DIGEST_INVALID"]);
  expect(await ask("/v2/another/manifests/latest")).toEqual([404, "NAME_UNKNOWN"]);
  expect(await ask("/v2/Team/app/manifests/latest")).toEqual([404, "NAME_INVALID"]);
  expect(await ask("/elsewhere")).toEqual([404, "UNSUPPORTED"]);
  expect(await ask("/v2/team/app/blobs/uploads/", "POST")).toEqual([405, "UNSUPPORTED"]);
  expect(await ask(`/v2/team/app/manifests/latest`, "DELETE")).toEqual([405, "UNSUPPORTED"]);
});

test("an image that is added while it runs is there at once", async () => {
  const { dir, registry } = await serveImage();
  const added = await writeTestImage(dir, [{ tar: Buffer.from("more") }], { tag: "v2" });
  expect((await openSource(registry, "x:v2").resolve()).manifestDigest).toBe(added.manifestDigest);
});

test("a blob that is a symbolic link is not published", async () => {
  const { dir, registry } = await serveImage();
  const digest = await putBlob(await makeTempDir("outside"), Buffer.from("private"));
  await symlink("/etc/hostname", path.join(dir, "blobs/sha256", digest.slice(7)));
  expect((await fetch(`${registry.url}/v2/x/blobs/${digest}`)).status).toBe(404);
});

test("a client that reads slowly is waited for, and one that leaves ends its answer", async () => {
  const requests: ServedRequest[] = [];
  const dir = await makeTempDir("registry");
  const big = Buffer.alloc(64 * 1024 * 1024, 7);
  const image = await writeTestImage(dir, [{ tar: Buffer.alloc(0), blob: big }]);
  const registry = await startEmbeddedRegistry({
    layout: dir,
    onRequest: (request) => requests.push(request),
  });
  closeAfterTest(registry);
  const socket = connect(Number(new URL(registry.url).port), "127.0.0.1");
  socket.pause();
  socket.write(`GET /v2/x/blobs/${image.layerDigests[0]} HTTP/1.1\r\nhost: x\r\n\r\n`);
  await expect.poll(() => registry.counters.bytesSent).toBeGreaterThan(100_000);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const sent = registry.counters.bytesSent;
  expect(sent).toBeLessThan(big.length / 2);
  socket.destroy();
  await expect.poll(() => requests.length).toBe(1);
  expect(requests[0]!.bodyBytes).toBeLessThan(big.length);
});

test("closing it ends open connections and frees the port", async () => {
  const { registry, dir } = await serveImage();
  const port = Number(new URL(registry.url).port);
  const socket = connect(port, "127.0.0.1");
  await new Promise((resolve) => socket.once("connect", resolve));
  const ended = new Promise((resolve) => socket.once("close", resolve));
  await registry.close();
  await ended;
  const again = await startEmbeddedRegistry({ layout: dir, port });
  const taken = await failureOf(startEmbeddedRegistry({ layout: dir, port }));
  expect(taken.code).toBe("IN_USE");
  await again.close();
});

test("a directory that is no layout is refused at the start", async () => {
  const error = await failureOf(startEmbeddedRegistry({ layout: await makeTempDir("empty") }));
  expect(error.code).toBe("NOT_FOUND");
});
