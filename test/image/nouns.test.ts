import { describe, expect, it } from "vitest";
import { parseImageConfig } from "../../src/image/config.js";
import { digestOf, isDigest, parseDigest } from "../../src/image/digest.js";
import { choosePlatform, type ImageIndex, parseManifestOrIndex } from "../../src/image/manifest.js";
import {
  isEncryptedLayerType,
  isForeignLayerType,
  isTarLayerType,
  mediaTypes,
} from "../../src/image/media-types.js";
import { parsePlatform, platformText } from "../../src/image/platform.js";
import { parseReference, referenceText, withDigest } from "../../src/image/reference.js";

const digest = digestOf(Buffer.from("x"));
const json = (value: unknown) => Buffer.from(JSON.stringify(value));

describe("a reference", () => {
  const complete: [string, string][] = [
    ["debian", "docker.io/library/debian:latest"],
    ["debian:12", "docker.io/library/debian:12"],
    ["team/app", "docker.io/team/app:latest"],
    ["index.docker.io/team/app", "docker.io/team/app:latest"],
    ["docker://ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"],
    ["localhost/app", "localhost/app:latest"],
    ["127.0.0.1:5000/app:x", "127.0.0.1:5000/app:x"],
    ["[::1]:5000/app", "[::1]:5000/app:latest"],
    [`app@${digest}`, `docker.io/library/app@${digest}`],
    [`app:v1@${digest}`, `docker.io/library/app:v1@${digest}`],
    ["oci:/srv/image:v1", "oci:/srv/image:v1"],
    ["oci:/srv/a:b/image", "oci:/srv/a:b/image"],
    [`oci:/srv/image@${digest}`, `oci:/srv/image@${digest}`],
  ];
  it.each(complete)("%s is %s, and that is itself again", (text, expected) => {
    expect(referenceText(parseReference(text))).toBe(expected);
    expect(referenceText(parseReference(expected))).toBe(expected);
  });

  it.each([
    "",
    "team/App",
    "a//b",
    "app:",
    "app:-x",
    "app@sha256:12",
    "http://host/app",
    "host:port/app",
    "oci:",
    "oci:dir:",
    "a b",
  ])("%j is refused as USAGE, by name", (text) => {
    expect(() => parseReference(text)).toThrow(
      expect.objectContaining({ code: "USAGE", message: expect.stringContaining(JSON.stringify(text)) }),
    );
  });

  it("keeps its tag when it is pinned", () => {
    expect(referenceText(withDigest(parseReference("app:v1"), digest))).toBe(
      `docker.io/library/app:v1@${digest}`,
    );
  });
});

describe("a digest", () => {
  it("is sha256 or sha512 with as many lower-case hex digits", () => {
    expect(isDigest(digest)).toBe(true);
    expect(isDigest(digestOf(Buffer.from("x"), "sha512"))).toBe(true);
    for (const bad of [
      "sha256:",
      digest.toUpperCase(),
      digest.slice(0, -1),
      `md5:${"0".repeat(32)}`,
      "constructor:x",
      7,
      null,
    ]) {
      expect(isDigest(bad)).toBe(false);
    }
    expect(() => parseDigest("sha256:xy", "here")).toThrow(/^here: /);
  });
});

describe("a platform", () => {
  it.each([
    ["linux/x86_64", "linux/amd64"],
    ["linux/aarch64", "linux/arm64"],
    ["linux/arm64/v8", "linux/arm64"],
    ["linux/arm", "linux/arm/v7"],
    ["Linux/ARM/6", "linux/arm/v6"],
    ["linux/constructor", "linux/constructor"],
  ])("%s means %s", (text, expected) => {
    const index: ImageIndex = {
      mediaType: mediaTypes.ociImageIndex,
      manifests: [{ mediaType: mediaTypes.ociManifest, digest, size: 1, platform: parsePlatform(expected) }],
    };
    expect(choosePlatform(index, parsePlatform(text), "here").digest).toBe(digest);
  });

  it("is matched exactly before it is matched nearly, and never by an attestation", () => {
    const entry = (platform: string, n: number) => ({
      mediaType: mediaTypes.ociManifest,
      digest: digestOf(Buffer.from([n])),
      size: n,
      platform: { ...parsePlatform(platform), ...(platform.startsWith("unknown") ? { os: "unknown" } : {}) },
    });
    const index = {
      mediaType: mediaTypes.ociImageIndex,
      manifests: [
        entry("unknown/unknown", 1),
        entry("linux/arm/v6", 2),
        entry("linux/arm/v7", 3),
        entry("linux/amd64", 4),
      ],
    };
    expect(choosePlatform(index, parsePlatform("linux/arm/v7"), "").size).toBe(3);
    expect(choosePlatform(index, parsePlatform("linux/arm/v8"), "").size).toBe(3);
    expect(choosePlatform(index, parsePlatform("linux/arm/v6"), "").size).toBe(2);
    expect(() => choosePlatform(index, parsePlatform("linux/arm/v5"), "")).toThrow(
      expect.objectContaining({
        code: "PLATFORM_NOT_FOUND",
        message: expect.stringContaining("linux/arm/v6, linux/arm/v7, linux/amd64"),
      }),
    );
    expect(platformText(parsePlatform("linux/arm/v7"))).toBe("linux/arm/v7");
  });
});

describe("a manifest", () => {
  const descriptor = { mediaType: "t", digest, size: 3 };

  it("is told from an image index by its own media type, the header's, or its fields", () => {
    expect(
      parseManifestOrIndex(json({ config: descriptor, layers: [descriptor] }), undefined, "m").kind,
    ).toBe("manifest");
    expect(parseManifestOrIndex(json({ manifests: [descriptor] }), undefined, "m").kind).toBe("index");
    expect(parseManifestOrIndex(json({ manifests: null }), mediaTypes.ociImageIndex, "m").kind).toBe("index");
    expect(parseManifestOrIndex(json({ config: descriptor, layers: null }), "text/plain", "m")).toMatchObject(
      { manifest: { layers: [] } },
    );
  });

  it.each([
    [{ schemaVersion: 1 }, /schema 1/],
    [{}, /neither a manifest/],
    [{ config: descriptor, layers: {} }, /layers: not a list/],
    [{ config: descriptor, layers: [{ ...descriptor, size: -1 }] }, /layers\[0\]: size -1/],
    [{ config: { ...descriptor, digest: "x" }, layers: [] }, /config: digest/],
    [[], /not a JSON object/],
  ])("%j is refused as IMAGE_INVALID", (value, message) => {
    expect(() => parseManifestOrIndex(json(value), undefined, "m")).toThrow(message);
  });
});

describe("an image config", () => {
  it("has empty fields where the image has none, whatever a hostile one puts there", () => {
    expect(parseImageConfig(json({}), "c")).toMatchObject({
      user: "",
      env: [],
      entrypoint: [],
      cmd: [],
      volumes: [],
      labels: {},
      diffIds: [],
    });
    const odd = {
      architecture: "constructor",
      config: { Labels: { a: { toString: 1 } }, Cmd: null, Volumes: { "/b": {}, "/a": {} } },
    };
    expect(parseImageConfig(json(odd), "c")).toMatchObject({
      platform: { architecture: "constructor" },
      volumes: ["/a", "/b"],
    });
    expect(() => parseImageConfig(json({ config: { Env: "A=1" } }), "c")).toThrow(
      /Env is not a list of strings/,
    );
  });
});

describe("a layer's media type", () => {
  it("says foreign, encrypted, or tar", () => {
    expect(isForeignLayerType("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")).toBe(true);
    expect(isForeignLayerType("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")).toBe(true);
    expect(isForeignLayerType(mediaTypes.ociLayerGzip)).toBe(false);
    expect(isEncryptedLayerType("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")).toBe(true);
    expect(
      [mediaTypes.ociLayerTar, mediaTypes.ociLayerZstd, mediaTypes.dockerLayerGzip].every(isTarLayerType),
    ).toBe(true);
    expect(isTarLayerType("application/json")).toBe(false);
  });
});
