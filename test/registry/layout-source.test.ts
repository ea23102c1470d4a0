import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile, rename, symlink, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { digestHex } from "../../src/image/digest.js";
import { mediaTypes } from "../../src/image/media-types.js";
import { parseReference } from "../../src/image/reference.js";
import { openImageSource } from "../../src/registry/open-image-source.js";
import { putBlob, tagManifest, writeTestImage } from "../support/oci-layout.js";
import { makeTempDir } from "../support/temp-dir.js";
import { failureOf, numberedBytes, readAll } from "./registry-trial.js";

const amd64 = { os: "linux", architecture: "amd64" };
const arm64 = { os: "linux", architecture: "arm64" };
const layer = { tar: numberedBytes(700_000), blob: numberedBytes(700_000) };

function openLayout(dir: string, suffix = "") {
  const settings = { attemptTimeoutMs: 1000, insecureRegistries: [] };
  return openImageSource(parseReference(`oci:${dir}${suffix}`), { settings });
}

const blobFile = (dir: string, digest: string) => path.join(dir, "blobs/sha256", digest.slice(7));

test("an image is found by its tag and by its digest, and read with ranges", async () => {
  const dir = await makeTempDir("layout");
  const image = await writeTestImage(dir, [layer], { tag: "v1" });
  await writeTestImage(dir, [{ tar: Buffer.from("other") }], { tag: "v2" });
  const source = openLayout(dir, ":v1");
  const resolved = await source.resolve();
  expect(resolved.manifestDigest).toBe(image.manifestDigest);
  expect(resolved.config.digest).toBe(image.configDigest);
  expect(resolved.platform).toEqual(amd64);
  const pinned = await openLayout(dir, `@${image.manifestDigest}`).resolve();
  expect(pinned.manifestDigest).toBe(image.manifestDigest);
  const [blob] = resolved.layers;
  const before = source.counters;
  expect((await readAll(source, blob!)).equals(layer.blob)).toBe(true);
  const part = await readAll(source, blob!, { start: 262_143, end: 600_001 });
  expect(part.equals(layer.blob.subarray(262_143, 600_001))).toBe(true);
  expect(source.counters).toEqual({
    requests: before.requests + 2,
    bytes: before.bytes + layer.blob.length + part.length,
  });
});

test("without a tag the only image is meant, and with several the tags are listed", async () => {
  const dir = await makeTempDir("layout");
  const image = await writeTestImage(dir, [], { tag: "v1" });
  expect((await openLayout(dir).resolve()).manifestDigest).toBe(image.manifestDigest);
  await writeTestImage(dir, [layer], { tag: "v2" });
  const error = await failureOf(openLayout(dir).resolve());
  expect(error.code).toBe("USAGE");
  expect(error.message).toMatch(/2 images.*v1, v2/);
  const missing = await failureOf(openLayout(dir, ":v3").resolve());
  expect(missing.code).toBe("NOT_FOUND");
  expect(missing.message).toMatch(/tagged v3; tags: v1, v2/);
});

test("containerd's names are tags as well", async () => {
  const dir = await makeTempDir("layout");
  const image = await writeTestImage(dir, [], { tag: "v1" });
  const file = path.join(dir, "index.json");
  const text = await readFile(file, "utf8");
  for (const name of ["io.containerd.image.name", "org.opencontainers.image.ref.name"]) {
    const annotations = { [name]: "registry.example/team/app:v7" };
    const index = JSON.parse(text);
    index.manifests[0].annotations = annotations;
    await writeFile(file, JSON.stringify(index));
    expect((await openLayout(dir, ":v7").resolve()).manifestDigest).toBe(image.manifestDigest);
  }
});

test("platforms are chosen from an inner image index, from equal tags, and from untagged entries", async () => {
  const dir = await makeTempDir("layout");
  const one = await writeTestImage(dir, [], { tag: "one", architecture: "amd64" });
  const two = await writeTestImage(dir, [layer], { tag: "two", architecture: "arm64" });
  const index = JSON.parse(await readFile(path.join(dir, "index.json"), "utf8"));
  const entries = index.manifests.map((entry: object, i: number) => ({
    ...entry,
    annotations: undefined,
    platform: i === 0 ? amd64 : arm64,
  }));
  const inner = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociImageIndex, manifests: entries }),
  );
  await tagManifest(dir, "multi", mediaTypes.ociImageIndex, await putBlob(dir, inner), inner.length);
  const check = async (suffix: string) => {
    expect((await openLayout(dir, suffix).resolve({ platform: amd64 })).manifestDigest).toBe(
      one.manifestDigest,
    );
    expect((await openLayout(dir, suffix).resolve({ platform: arm64 })).manifestDigest).toBe(
      two.manifestDigest,
    );
    const other = { os: "linux", architecture: "s390x" };
    expect((await failureOf(openLayout(dir, suffix).resolve({ platform: other }))).code).toBe(
      "PLATFORM_NOT_FOUND",
    );
  };
  await check(":multi");
  await writeFile(path.join(dir, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: entries }));
  await check("");
  const tagged = entries.map((entry: object) => ({
    ...entry,
    annotations: { "org.opencontainers.image.ref.name": "both" },
  }));
  await writeFile(path.join(dir, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: tagged }));
  await check(":both");
});

test("a directory that is no layout, or not there, is said to be so", async () => {
  const dir = await makeTempDir("layout");
  const none = await failureOf(openLayout(path.join(dir, "nowhere")).resolve());
  expect(none.code).toBe("NOT_FOUND");
  expect(none.message).toContain("oci-layout is missing");
  await writeFile(path.join(dir, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  expect((await failureOf(openLayout(dir).resolve())).message).toContain("index.json is missing");
  await writeFile(path.join(dir, "index.json"), '{"schemaVersion":2,"manifests":null}');
  expect((await failureOf(openLayout(dir).resolve())).message).toContain("no image at all");
  await writeFile(path.join(dir, "index.json"), "not json");
  expect((await failureOf(openLayout(dir).resolve())).code).toBe("IMAGE_INVALID");
  await writeFile(path.join(dir, "oci-layout"), '{"imageLayoutVersion":"2.0.0"}');
  expect((await failureOf(openLayout(dir).resolve())).message).toContain('"2.0.0"');
});

test("changed bytes of a manifest or config are DIGEST_MISMATCH, missing ones NOT_FOUND", async () => {
  const dir = await makeTempDir("layout");
  const image = await writeTestImage(dir, [layer], { tag: "v1" });
  const source = openLayout(dir, ":v1");
  for (const digest of [image.manifestDigest, image.configDigest]) {
    const file = blobFile(dir, digest);
    const good = await readFile(file);
    const bad = Buffer.from(good);
    bad[10]! ^= 1;
    await writeFile(file, bad);
    expect((await failureOf(source.resolve())).code).toBe("DIGEST_MISMATCH");
    await rename(file, `${file}.away`);
    expect((await failureOf(source.resolve())).code).toBe("NOT_FOUND");
    await rename(`${file}.away`, file);
    await writeFile(file, good);
  }
  await source.resolve();
});

test("a layer of another length than its descriptor says is not read", async () => {
  const dir = await makeTempDir("layout");
  const image = await writeTestImage(dir, [layer], { tag: "v1" });
  const source = openLayout(dir, ":v1");
  const digest = image.layerDigests[0]!;
  await truncate(blobFile(dir, digest), 1000);
  const error = await failureOf(readAll(source, { digest, size: layer.blob.length }, { start: 0, end: 10 }));
  expect(error.code).toBe("IMAGE_INVALID");
  expect(error.message).toMatch(/1000 bytes, its descriptor says 700000/);
});

test("a layer file that shrinks while it is read is an error, not a short read", async () => {
  const dir = await makeTempDir("layout");
  // More than one piece.
  const blob = randomBytes(3 << 20);
  const image = await writeTestImage(dir, [{ tar: blob, blob }], { tag: "v1" });
  const source = openLayout(dir, ":v1");
  const digest = image.layerDigests[0]!;
  const reading = (async () => {
    for await (const _ of source.readBlob({ digest, size: blob.length })) {
      await truncate(blobFile(dir, digest), 100);
    }
  })();
  expect((await failureOf(reading)).code).toBe("IMAGE_INVALID");
});

test("a FIFO or directory in place of a blob neither hangs nor is read; a symbolic link is followed", async () => {
  const dir = await makeTempDir("layout");
  const image = await writeTestImage(dir, [layer], { tag: "v1" });
  const source = openLayout(dir, ":v1");
  const file = blobFile(dir, image.configDigest);
  await rename(file, `${file}.real`);
  await symlink(`${digestHex(image.configDigest)}.real`, file);
  await source.resolve();
  await rename(file, `${file}.link`);
  execFileSync("mkfifo", [file]);
  expect((await failureOf(source.resolve())).message).toContain("not a regular file");
});

test("reads can be cancelled, and end at their deadline", async () => {
  const dir = await makeTempDir("layout");
  const image = await writeTestImage(dir, [layer], { tag: "v1" });
  const source = openLayout(dir, ":v1");
  const blob = { digest: image.layerDigests[0]!, size: layer.blob.length };
  expect((await failureOf(readAll(source, blob, undefined, { signal: AbortSignal.abort() }))).code).toBe(
    "CANCELLED",
  );
  expect((await failureOf(readAll(source, blob, undefined, { deadlineMs: 0 }))).code).toBe(
    "DEADLINE_EXCEEDED",
  );
  expect((await failureOf(source.resolve({ signal: AbortSignal.abort() }))).code).toBe("CANCELLED");
});
