import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Digest, digestOf } from "../../src/image/digest.js";
import { mediaTypes } from "../../src/image/media-types.js";
import { parseReference } from "../../src/image/reference.js";
import { lastMeaning, noteMeaning } from "../../src/mount/known-names.js";
import { DaemonHost, eventually } from "../support/daemon-host.js";
import { FakeRegistry } from "../support/fake-registry.js";
import type { SeenRequest } from "../support/fault-script.js";
import { makeSkimHost, resultOf, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

/** Starts that go ahead while the registry is asked what a name means. */

let registry: FakeRegistry;
let busybox: Buffer;

beforeAll(async () => {
  registry = await FakeRegistry.start();
  busybox = await readFile("/bin/busybox");
});

afterAll(() => registry.close());

beforeEach(() => {
  registry.script.clear();
  registry.seen.length = 0;
});

/** From now on `tag` means an image that says `name` when it runs. Each has a layer of its own, so that none is in the cache because of another. */
function push(tag: string, name: string, config: Record<string, unknown> = {}): Digest {
  const tar = buildTar([
    { path: "bin/", type: "directory" },
    { path: "bin/busybox", content: busybox, mode: 0o755 },
    { path: "bin/sh", type: "hardlink", link: "bin/busybox" },
    { path: "name", content: `${name}\n` },
  ]);
  const layer = registry.addBlob(tar);
  const content = {
    os: "linux",
    architecture: { x64: "amd64" }[process.arch as string] ?? process.arch,
    config: { Cmd: ["sh", "-c", "read name < /name; echo $name"], Env: ["PATH=/bin"], ...config },
    rootfs: { type: "layers", diff_ids: [layer.digest] },
  };
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: { mediaType: mediaTypes.ociConfig, ...registry.addBlob(Buffer.from(JSON.stringify(content))) },
    layers: [{ mediaType: mediaTypes.ociLayerTar, ...layer }],
  };
  registry.addManifest(manifest, { tag });
  return digestOf(Buffer.from(JSON.stringify(manifest)));
}

const nameOf = (tag: string) => `${registry.host}/team/image:${tag}`;
const isManifest = ({ kind }: SeenRequest) => kind === "manifest";
const isRange = ({ kind, headers }: SeenRequest) => kind === "blob" && headers.range !== undefined;

/** Requests for manifests wait until the returned function is called. */
function holdManifests(): () => void {
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  registry.script.add({
    on: "manifest",
    times: Number.POSITIVE_INFINITY,
    fault: ({ next }) => void released.then(next),
  });
  return release;
}

describe.each(["its own server", "a daemon"])(
  "a start of a name that was started before, with %s",
  (kind) => {
    let host: SkimHost;

    beforeAll(async () => {
      if (kind === "a daemon") {
        const daemon = await DaemonHost.make();
        await daemon.start();
        host = daemon.skim;
      } else host = await makeSkimHost();
    });

    /** A daemon's images stay mounted for a while. */
    const leftovers = async () =>
      (await host.leftovers()).filter((left) => !/^images\/|^mounts\/image-|\/images\/image-/.test(left));
    const tagOf = (name: string) => `${name}-${kind === "a daemon" ? "daemon" : "own"}`;

    it("fetches while the registry has not said yet what the name means, and runs nothing before", async () => {
      const tag = tagOf("held");
      push(tag, "first");
      expect(await host.ok(["index", nameOf(tag)])).toBeTruthy();
      registry.seen.length = 0;
      const release = holdManifests();
      const child = host.start(["run", nameOf(tag)]);
      const result = resultOf(child);
      let isOver = false;
      void result.then(() => {
        isOver = true;
      });
      await eventually("a range of a layer is asked for", () => registry.seen.some(isRange));
      // What comes before the runtime is there, and nothing has run.
      await eventually("the rootfs is stacked", async () =>
        (await host.leftovers()).some((left) => /overlay/.test(left)),
      );
      expect(isOver).toBe(false);
      release();
      expect(await result).toMatchObject({ code: 0, stdout: "first\n", stderr: "" });
      // The manifest of the tag, and no config: they are known.
      expect(registry.seen.filter(isManifest)).toHaveLength(1);
      expect(registry.seen.filter((seen) => seen.kind === "blob" && !isRange(seen))).toEqual([]);
      expect(await leftovers()).toEqual([]);
    });

    it("runs the image that the name means now, and leaves nothing of the other", async () => {
      const tag = tagOf("moved");
      push(tag, "before");
      expect(await host.ok(["run", nameOf(tag)])).toBe("before\n");
      const now = push(tag, "after");
      expect(await host.ok(["run", nameOf(tag)])).toBe("after\n");
      expect(await lastMeaning(host.cacheDir, parseReference(nameOf(tag)), undefined)).toBe(now);
      expect(await host.ok(["run", nameOf(tag)])).toBe("after\n");
      expect(await leftovers()).toEqual([]);
    });

    it("does not fail where only the image before would", async () => {
      const tag = tagOf("mended");
      push(tag, "broken", { User: "nobody-knows-whom" });
      expect(await host.run(["run", nameOf(tag)])).toMatchObject({ code: 125 });
      push(tag, "mended");
      expect(await host.ok(["run", nameOf(tag)])).toBe("mended\n");
      expect(await leftovers()).toEqual([]);
    });

    it("fails as it would without, where the registry says no, and leaves nothing", async () => {
      const tag = tagOf("refused");
      push(tag, "refused");
      await host.ok(["index", nameOf(tag)]);
      registry.script.add({
        on: "manifest",
        times: Number.POSITIVE_INFINITY,
        fault: ({ response }) => void response.writeHead(404).end(),
      });
      const { code, stdout, stderr } = await host.run(["run", nameOf(tag)]);
      expect({ code, stdout }).toEqual({ code: 125, stdout: "" });
      expect(stderr).toContain("NOT_FOUND");
      expect(await leftovers()).toEqual([]);
    });

    it("ends at once where it is ended meanwhile", async () => {
      const tag = tagOf("ended");
      push(tag, "ended");
      await host.ok(["index", nameOf(tag)]);
      const release = holdManifests();
      const child = host.start(["run", nameOf(tag)]);
      const result = resultOf(child);
      await eventually("the rootfs is stacked", async () =>
        (await host.leftovers()).some((left) => /overlay/.test(left)),
      );
      child.kill("SIGINT");
      expect(await result).toMatchObject({ code: 130, stdout: "" });
      release();
      expect(await leftovers()).toEqual([]);
    });

    it("does not touch a writable layer of the caller's before it is known whose it becomes", async () => {
      const tag = tagOf("upper");
      push(tag, "one");
      await host.ok(["index", nameOf(tag)]);
      push(tag, "two");
      const upper = path.join(await makeTempDir("upper"), "upper");
      const run = ["run", nameOf(tag), "--upper", upper, "--", "sh", "-c"];
      expect(await host.ok([...run, "read name < /name; echo $name; echo kept > /kept"])).toBe("two\n");
      expect(await host.ok([...run, "read kept < /kept; echo $kept"])).toBe("kept\n");
    });
  },
);

describe("what names meant last", () => {
  const reference = parseReference("registry.test/a/b:v1");
  const digest = (n: number) => digestOf(Buffer.from(`${n}`));

  it("is kept for each name and platform, and for none that says itself what it means", async () => {
    const dir = await makeTempDir("names");
    const arm = { os: "linux", architecture: "arm64" } as const;
    await noteMeaning(dir, reference, undefined, digest(1));
    await noteMeaning(dir, reference, arm, digest(2));
    await noteMeaning(dir, parseReference("registry.test/a/b:v2"), undefined, digest(3));
    expect(await lastMeaning(dir, reference, undefined)).toBe(digest(1));
    expect(await lastMeaning(dir, reference, arm)).toBe(digest(2));
    const pinned = parseReference(`registry.test/a/b@${digest(1)}`);
    await noteMeaning(dir, pinned, undefined, digest(1));
    await noteMeaning(dir, parseReference("oci:/somewhere:v1"), undefined, digest(1));
    expect(await lastMeaning(dir, pinned, undefined)).toBeUndefined();
    expect(await readdir(path.join(dir, "names"))).toHaveLength(3);
  });

  it("is not believed where it is damaged, and not kept for ever", async () => {
    const dir = await makeTempDir("names");
    await noteMeaning(dir, reference, undefined, digest(1));
    const [name] = await readdir(path.join(dir, "names"));
    const file = path.join(dir, "names", name!);
    for (const content of ["", "{", "null", '"x"', JSON.stringify({ manifestDigest: digest(2) })]) {
      await writeFile(file, content);
      expect(await lastMeaning(dir, reference, undefined)).toBeUndefined();
    }
    await noteMeaning(dir, reference, undefined, digest(4));
    expect(await lastMeaning(dir, reference, undefined)).toBe(digest(4));
    for (let n = 0; n < 1000; n++) await writeFile(path.join(dir, "names", `old-${n}`), "{}");
    await noteMeaning(dir, parseReference("registry.test/a/b:v9"), undefined, digest(5));
    expect((await readdir(path.join(dir, "names"))).length).toBeLessThan(1000);
    expect(await lastMeaning(dir, parseReference("registry.test/a/b:v9"), undefined)).toBe(digest(5));
  });

  it("is nothing that a start waits for where it cannot be kept", async () => {
    const dir = await makeTempDir("names");
    await mkdir(path.join(dir, "cache"));
    await writeFile(path.join(dir, "cache/names"), "a file");
    await noteMeaning(path.join(dir, "cache"), reference, undefined, digest(1));
    expect(await lastMeaning(path.join(dir, "cache"), reference, undefined)).toBeUndefined();
  });
});
