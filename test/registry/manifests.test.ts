import { expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { digestOf } from "../../src/image/digest.js";
import { mediaTypes } from "../../src/image/media-types.js";
import { hostPlatform } from "../../src/image/platform.js";
import type { FakeRegistry } from "../support/fake-registry.js";
import { changes, faults } from "../support/network-faults.js";
import { failureOf, openSource, startFake } from "./registry-trial.js";

const amd64 = { os: "linux", architecture: "amd64" };
const arm64 = { os: "linux", architecture: "arm64" };

function addIndex(registry: FakeRegistry, entries: object[], tag = "v1") {
  return registry.addManifest(
    { schemaVersion: 2, mediaType: mediaTypes.ociImageIndex, manifests: entries },
    { tag },
  );
}

test("a tag is resolved to a pinned manifest with its config and layers", async () => {
  const registry = await startFake();
  const { manifest, config, layer } = registry.addImage({ tag: "v1", architecture: "amd64" });
  const image = await openSource(registry).resolve();
  expect(image.manifestDigest).toBe(manifest.digest);
  expect(image.manifestMediaType).toBe(mediaTypes.ociManifest);
  expect(digestOf(image.manifestBytes)).toBe(manifest.digest);
  expect(image.config.digest).toBe(config.digest);
  expect(digestOf(image.configBytes)).toBe(config.digest);
  expect(image.layers.map((each) => each.digest)).toEqual([layer.digest]);
  expect(image.platform).toEqual(amd64);
  const [request] = registry.requestsTo(/manifests/);
  for (const type of [
    mediaTypes.ociImageIndex,
    mediaTypes.ociManifest,
    mediaTypes.dockerManifestList,
    mediaTypes.dockerManifest,
  ]) {
    expect(request?.headers.accept).toContain(type);
  }
  expect(registry.seen.every((each) => each.method === "GET")).toBe(true);
});

test("a digest in the reference goes before its tag, and is checked", async () => {
  const registry = await startFake();
  registry.addImage({ tag: "v1", architecture: "amd64" });
  const { manifest } = registry.addImage({ architecture: "amd64", layer: Buffer.from("another") });
  const source = openSource(registry, `team/app:v1@${manifest.digest}`);
  expect((await source.resolve()).manifestDigest).toBe(manifest.digest);
  registry.fail(/manifests/, ({ response }) => void response.end('{"schemaVersion":2}'), 99);
  const error = await failureOf(source.resolve());
  expect(error.code).toBe("DIGEST_MISMATCH");
  expect(error.message).toContain(manifest.digest);
});

test("a tag whose bytes are not those of Docker-Content-Digest is refused", async () => {
  const registry = await startFake();
  registry.addImage({ tag: "v1" });
  const other = digestOf(Buffer.from("x"));
  registry.fail(/manifests/, faults.changed(changes.header("docker-content-digest", other)));
  expect((await failureOf(openSource(registry).resolve())).code).toBe("DIGEST_MISMATCH");
});

test("a sha512 Docker-Content-Digest is checked and kept, a malformed one is ignored", async () => {
  const registry = await startFake();
  const { manifest } = registry.addImage({ tag: "v1" });
  const bytes = Buffer.from((await openSource(registry).resolve()).manifestBytes);
  for (const [header, digest] of [
    [digestOf(bytes, "sha512"), digestOf(bytes, "sha512")],
    ["md5:abc", manifest.digest],
  ] as const) {
    registry.fail(/manifests/, ({ response }) => {
      response
        .writeHead(200, { "docker-content-digest": header, "content-type": mediaTypes.ociManifest })
        .end(bytes);
    });
    expect((await openSource(registry).resolve()).manifestDigest).toBe(digest);
  }
});

test("a manifest without Content-Type and without Docker-Content-Digest is read by what it says itself", async () => {
  const registry = await startFake();
  const { manifest } = registry.addImage({ tag: "v1" });
  const bytes = Buffer.from((await openSource(registry).resolve()).manifestBytes);
  registry.fail(/manifests/, ({ response }) => void response.end(bytes));
  expect((await openSource(registry).resolve()).manifestDigest).toBe(manifest.digest);
});

test.each([
  ["says its length", true],
  ["does not", false],
])("a manifest of more than 4 MiB that %s is LIMIT_EXCEEDED", async (_what, length) => {
  const registry = await startFake();
  const big = Buffer.alloc(limits.manifestBytesMax + 1, 0x20);
  registry.fail(/manifests/, ({ response }) => {
    if (length) response.setHeader("content-length", big.length);
    else response.flushHeaders();
    response.end(big);
  });
  const error = await failureOf(openSource(registry).resolve());
  expect(error.code).toBe("LIMIT_EXCEEDED");
  expect(registry.requestsTo(/manifests/)).toHaveLength(1);
});

test("the manifest of an image index for the platform asked for is chosen, the host's by default", async () => {
  const registry = await startFake();
  const forAmd64 = registry.addImage({ architecture: "amd64" });
  const forArm64 = registry.addImage({ architecture: "arm64" });
  addIndex(registry, [
    { ...forAmd64.manifest, platform: amd64 },
    { ...forArm64.manifest, platform: { ...arm64, variant: "v8" } },
    { ...forAmd64.manifest, platform: { os: "unknown", architecture: "unknown" } },
  ]);
  const source = openSource(registry);
  expect((await source.resolve({ platform: amd64 })).manifestDigest).toBe(forAmd64.manifest.digest);
  const image = await source.resolve({ platform: arm64 });
  expect(image.manifestDigest).toBe(forArm64.manifest.digest);
  expect(image.platform).toEqual(arm64);
  const host = hostPlatform().architecture;
  expect((await source.resolve()).platform.architecture).toBe(host);
  const error = await failureOf(source.resolve({ platform: { os: "linux", architecture: "s390x" } }));
  expect(error.code).toBe("PLATFORM_NOT_FOUND");
  expect(error.message).toMatch(/linux\/s390x.*linux\/amd64, linux\/arm64/);
});

test("image indexes inside image indexes are looked into, to a depth", async () => {
  const registry = await startFake();
  const image = registry.addImage({ architecture: "arm64" });
  const other = registry.addImage({ architecture: "amd64" });
  const first = addIndex(registry, [{ ...other.manifest, platform: amd64 }], "other");
  const inner = addIndex(registry, [{ ...image.manifest, platform: arm64 }], "inner");
  addIndex(registry, [first, inner]);
  const source = openSource(registry);
  expect((await source.resolve({ platform: arm64 })).manifestDigest).toBe(image.manifest.digest);
  let deep = inner;
  for (let i = 0; i < 4; i++) deep = addIndex(registry, [deep], `deep${i}`);
  const error = await failureOf(openSource(registry, "team/app:deep3").resolve({ platform: arm64 }));
  expect(error.code).toBe("IMAGE_INVALID");
  expect(error.message).toContain("nested deeper");
});

test("a hostile tree of image indexes is not walked to its end", async () => {
  const registry = await startFake();
  const leaf = addIndex(registry, [], "leaf");
  const level2 = addIndex(
    registry,
    Array.from({ length: 50 }, () => leaf),
    "l2",
  );
  addIndex(
    registry,
    Array.from({ length: 50 }, () => level2),
  );
  const error = await failureOf(openSource(registry).resolve());
  expect(error.code).toBe("IMAGE_INVALID");
  expect(registry.requestsTo(/manifests/).length).toBeLessThan(25);
});

test("a single manifest for another platform than the one asked for is PLATFORM_NOT_FOUND, naming what it is", async () => {
  const registry = await startFake();
  registry.addImage({ tag: "v1", architecture: "arm64", variant: "v8" });
  const source = openSource(registry);
  expect((await source.resolve({ platform: arm64 })).platform).toEqual(arm64);
  expect((await source.resolve()).platform).toEqual(arm64);
  const error = await failureOf(source.resolve({ platform: amd64 }));
  expect(error.code).toBe("PLATFORM_NOT_FOUND");
  expect(error.message).toMatch(/linux\/amd64.*linux\/arm64/);
});

test("an unknown image and an unknown repository are NOT_FOUND, by name", async () => {
  const registry = await startFake();
  const error = await failureOf(openSource(registry, "team/app:nope").resolve());
  expect(error.code).toBe("NOT_FOUND");
  expect(error.message).toContain(`manifest nope of ${registry.host}/team/app`);
  expect(error.message).toContain("MANIFEST_UNKNOWN");
});

test("an artifact that is no container image is IMAGE_INVALID, naming what it is", async () => {
  const registry = await startFake();
  registry.addImage({ tag: "v1", configType: "application/vnd.cncf.helm.config.v1+json" });
  const error = await failureOf(openSource(registry).resolve());
  expect(error.code).toBe("IMAGE_INVALID");
  expect(error.message).toContain("vnd.cncf.helm.config");
  expect(registry.requestsTo(/blobs/)).toHaveLength(0);
});

test("a config with other bytes is DIGEST_MISMATCH, one of another length a protocol error", async () => {
  const registry = await startFake();
  const { config } = registry.addImage({ tag: "v1" });
  registry.fail(/blobs/, ({ response }) => void response.end(Buffer.alloc(config.size, 0x7b)));
  expect((await failureOf(openSource(registry).resolve())).code).toBe("DIGEST_MISMATCH");
  registry.fail(/blobs/, ({ response }) => void response.end("{}"), 99);
  expect((await failureOf(openSource(registry).resolve())).code).toBe("REGISTRY_PROTOCOL");
});

test("a config or manifest whose descriptor gives another size is refused", async () => {
  const registry = await startFake();
  const { manifest } = registry.addImage({ architecture: "amd64" });
  addIndex(registry, [{ ...manifest, size: manifest.size + 1, platform: amd64 }]);
  const error = await failureOf(openSource(registry).resolve({ platform: amd64 }));
  expect(error.code).toBe("IMAGE_INVALID");
  expect(error.message).toMatch(/has \d+ bytes, its descriptor says/);
});

test("a config that claims gigabytes is not read", async () => {
  const registry = await startFake();
  const config = registry.addBlob(Buffer.from("{}"));
  registry.addManifest(
    {
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, ...config, size: 8e9 },
      layers: [],
    },
    { tag: "v1" },
  );
  expect((await failureOf(openSource(registry).resolve())).code).toBe("LIMIT_EXCEEDED");
  expect(registry.requestsTo(/blobs/)).toHaveLength(0);
});

test.each([
  ["not JSON", "<html>"],
  ["an empty object", "{}"],
  ["a list", "[]"],
  ["schema 1", '{"schemaVersion":1,"fsLayers":[]}'],
])("a manifest that is %s is IMAGE_INVALID", async (_what, text) => {
  const registry = await startFake();
  registry.addManifest(Buffer.from(text), { tag: "v1" });
  expect((await failureOf(openSource(registry).resolve())).code).toBe("IMAGE_INVALID");
});

test("a compressed manifest is not taken, and asked for again", async () => {
  const registry = await startFake();
  registry.addImage({ tag: "v1", architecture: "amd64" });
  registry.fail(
    /manifests/,
    ({ response }) => void response.writeHead(200, { "content-encoding": "gzip" }).end("x"),
    2,
  );
  expect((await openSource(registry).resolve()).platform).toEqual(amd64);
  expect(registry.requestsTo(/manifests/)).toHaveLength(3);
});

test("resolving can be cancelled", async () => {
  const registry = await startFake();
  registry.addImage({ tag: "v1" });
  const abort = new AbortController();
  registry.fail(/manifests/, () => abort.abort());
  const error = await failureOf(openSource(registry).resolve({ signal: abort.signal }));
  expect(error.code).toBe("CANCELLED");
});
