import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import type { TreeNode } from "../../src/tree/image-tree.js";
import {
  contentsOf,
  directory,
  encoded,
  gzipLayer,
  layerIndex,
  node,
  plainLayer,
  raw,
  sampleContents,
  sampleTree,
  symlink,
  xattr,
} from "./sample-archive.js";
import { walkArchive } from "./walk-archive.js";

const typeBits = {
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
};

/** A plain reference model: what each path of a tree must look like when it is asked for through an archive. */
function expectedEntries(root: TreeNode): Map<string, Record<string, unknown>> {
  const names = new Map<TreeNode, number>();
  const paths: Array<[string, TreeNode]> = [];
  const visit = (path: string, of: TreeNode) => {
    paths.push([path, of]);
    names.set(of, (names.get(of) ?? 0) + 1);
    for (const [name, child] of of.children ?? []) visit(`${path === "/" ? "" : path}/${name}`, child);
  };
  visit("/", root);
  return new Map(
    paths.map(([path, of]) => {
      const subdirectories = [...(of.children?.values() ?? [])].filter((child) => child.type === "directory");
      return [
        path,
        {
          type: of.type,
          mode: typeBits[of.type] | of.mode,
          uid: of.uid,
          gid: of.gid,
          nlink: of.type === "directory" ? 2 + subdirectories.length : names.get(of),
          size:
            { directory: 4096, symlink: of.linkTarget.length, file: of.fileBytes }[of.type as string] ?? 0,
          mtimeSec: of.mtimeSec,
          mtimeNsec: of.mtimeNsec,
          deviceMajor: of.deviceMajor,
          deviceMinor: of.deviceMinor,
          target: of.type === "symlink" ? of.linkTarget : undefined,
          extents: of.type === "file" ? of.extents.map((extent) => ({ ...extent, layer: of.layer })) : [],
          xattrs: of.xattrs,
        },
      ];
    }),
  );
}

function expectSameTree(root: TreeNode, archive: ReturnType<typeof decodeArchive>): void {
  const expected = expectedEntries(root);
  const walked = walkArchive(archive);
  expect(walked.map((entry) => entry.path).sort()).toEqual([...expected.keys()].sort());
  const nodeOfInode = new Map<number, string>();
  for (const { path, ino, attributes, target, extents, xattrs } of walked) {
    const { first, count, parent, xattrFirst, xattrCount, ...seen } = attributes;
    expect({ ...seen, target, extents, xattrs }, path).toEqual(expected.get(path));
    nodeOfInode.set(ino, path);
  }
  expect(nodeOfInode.size, "hard links are one inode, all else its own").toBe(archive.inodeCount);
}

describe("an archive that is read back", () => {
  it("gives every type of file, hard links, sparse files, xattrs and odd names as they were", () => {
    const contents = sampleContents();
    const archive = decodeArchive(encoded(contents), "sample");
    expectSameTree(contents.tree.root, archive);
    expect(archive.totals).toEqual({
      fileCount: 5,
      directoryCount: 4,
      symlinkCount: 2,
      characterCount: 1,
      blockCount: 1,
      fifoCount: 1,
      nameCount: 14,
      setuidCount: 1,
      setgidCount: 0,
      fileBytes: 10_220,
    });
    expect(archive.hasXattrs).toBe(true);
  });

  it("says which image it is of", () => {
    const contents = sampleContents();
    const archive = decodeArchive(encoded(contents), "sample");
    expect(archive.identity).toEqual({
      reference: "registry.example/app:v1",
      manifestDigest: contents.manifestDigest,
      manifestMediaType: contents.manifestMediaType,
      platform: { os: "linux", architecture: "amd64" },
      spanBytes: 1024 * 1024,
      warnings: ["layer 1: odd"],
    });
    expect(Buffer.from(archive.manifestBytes)).toEqual(contents.manifestBytes);
    expect(Buffer.from(archive.configBytes)).toEqual(contents.configBytes);
    expect(archive.manifest.layers.map((layer) => layer.digest)).toEqual(
      archive.layers.map((layer) => layer.digest),
    );
    expect(archive.config.cmd).toEqual(["/bin/sh"]);
  });

  it("finds spans, restart points and windows of each layer, and shares those of a layer that is there twice", () => {
    const contents = sampleContents();
    const archive = decodeArchive(encoded(contents), "sample");
    expect(archive.layers).toMatchObject([
      {
        compression: "gzip",
        spanFirst: 0,
        spanCount: 3,
        restarts: 2,
        compressedBytes: 1000,
        uncompressedBytes: 1100,
      },
      {
        compression: "none",
        spanFirst: 3,
        spanCount: 2,
        restarts: 2,
        compressedBytes: 500,
        uncompressedBytes: 500,
      },
      { compression: "gzip", spanFirst: 0, spanCount: 3, restarts: 2 },
    ]);
    expect(archive.layers[2]).toEqual(archive.layers[0]);
    expect(archive.spanCount).toBe(5);
    expect([0, 399, 400, 799, 800, 1099].map((offset) => archive.spanIndexAt(2, offset))).toEqual([
      0, 0, 1, 1, 2, 2,
    ]);
    expect([0, 299, 300, 499].map((offset) => archive.spanIndexAt(1, offset))).toEqual([3, 3, 4, 4]);
    expect([0, 1, 2, 3, 4].map((span) => archive.restartSpan(span))).toEqual([0, 0, 2, 3, 4]);
    expect(archive.span(2)).toMatchObject({
      startBit: 3,
      restart: 2,
      compressedStart: 610,
      windowLength: 100,
    });
    expect(Buffer.from(archive.window(2))).toEqual(Buffer.from(gzipLayer.windows));
    expect(archive.window(0).length).toBe(0);
    expect(Buffer.from(archive.spanRecords(3, 5))).toEqual(Buffer.from(plainLayer.spanRecords));
  });

  it("counts windows from the start of the section, whichever layer they are of", () => {
    const second = layerIndex("second", "gzip", 1000, [
      { length: 400, compressedStart: 0, compressedEnd: 300 },
      { length: 10, restart: 2, compressedStart: 300, compressedEnd: 700, window: Buffer.alloc(400, 7) },
    ]);
    const archive = decodeArchive(encoded(contentsOf(directory(), [gzipLayer, second])), "two");
    expect(Buffer.from(archive.window(2))).toEqual(Buffer.from(gzipLayer.windows));
    expect(Buffer.from(archive.window(4))).toEqual(Buffer.from(second.windows));
    expect(archive.span(4).windowOffset).toBe(gzipLayer.windows.length);
    expect(archive.span(3).windowOffset).toBe(0);
  });

  it("may be of an image without layers, or with layers without bytes", () => {
    const empty = decodeArchive(encoded(contentsOf(directory(), [])), "empty");
    expect(walkArchive(empty)).toHaveLength(1);
    expect(empty).toMatchObject({ inodeCount: 1, spanCount: 0, layers: [], hasXattrs: false });
    const emptyLayer = layerIndex("nothing", "gzip", 20, []);
    const archive = decodeArchive(
      encoded(contentsOf(sampleTree(), [gzipLayer, plainLayer, emptyLayer])),
      "empty layer",
    );
    expect(archive.layers[2]).toMatchObject({
      spanFirst: 5,
      spanCount: 0,
      restarts: 0,
      uncompressedBytes: 0,
    });
    expect(() => archive.spanIndexAt(2, 0)).toThrow(/within its layer/);
  });

  it("keeps names of 255 bytes, a target of 4095, values of 64 KiB, and numbers at their bounds", () => {
    const root = directory({
      ["\xff".repeat(255)]: symlink("t".repeat(4095)),
      big: node("file", {
        fileBytes: Number.MAX_SAFE_INTEGER,
        uid: 2 ** 32 - 2,
        gid: 2 ** 32 - 2,
        mode: 0o7777,
      }),
      early: node("fifo", { mtimeSec: Number.MIN_SAFE_INTEGER }),
      late: node("fifo", { mtimeSec: Number.MAX_SAFE_INTEGER, mtimeNsec: 999_999_999 }),
      valued: node("fifo", { xattrs: [xattr(`user.${"n".repeat(250)}`, "\xfe".repeat(65_536))] }),
    });
    expectSameTree(root, decodeArchive(encoded(contentsOf(root, [])), "bounds"));
  });

  it("answers as the kernel's calls need it where there is nothing", () => {
    const archive = decodeArchive(encoded(sampleContents()), "sample");
    const su = archive.lookup(archive.lookup(1, raw("bin")), raw("su"));
    expect(su).toBeGreaterThan(1);
    expect(archive.lookup(su, raw("x"))).toBe(0);
    expect(archive.direntCount(su)).toBe(0);
    expect([...archive.dirents(su)]).toEqual([]);
    expect(archive.lookup(1, raw(""))).toBe(0);
    expect(archive.lookup(1, raw("bi"))).toBe(0);
    expect(archive.lookup(1, raw("bin2"))).toBe(0);
    expect(archive.extents(1)).toEqual([]);
    for (const mistake of [
      () => archive.inode(0),
      () => archive.inode(archive.inodeCount + 1),
      () => archive.dirent(1, archive.direntCount(1)),
      () => archive.linkTarget(1),
      () => archive.span(5),
      () => archive.spanRecords(3, 6),
    ]) {
      expect(mistake).toThrow(expect.objectContaining({ code: "INTERNAL" }));
    }
  });
});

describe("random trees", () => {
  const nameArbitrary = fc
    .uint8Array({ minLength: 1, maxLength: 12 })
    .map((bytes) => raw(Buffer.from(bytes).toString("latin1").replace(/[/\0]/g, "_")))
    .filter((name) => name !== "." && name !== "..");
  const attributes = fc.record({
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: fc.integer({ min: 0, max: 2 ** 32 - 2 }),
    gid: fc.integer({ min: 0, max: 2 ** 32 - 2 }),
    mtimeSec: fc.maxSafeInteger(),
    mtimeNsec: fc.integer({ min: 0, max: 999_999_999 }),
    xattrs: fc
      .uniqueArray(fc.tuple(nameArbitrary, nameArbitrary), { maxLength: 3, selector: ([name]) => name })
      .map((list) =>
        list.map(([name, value]) => ({ name, value })).sort((a, b) => (a.name < b.name ? -1 : 1)),
      ),
  });
  const extents = fc
    .array(fc.tuple(fc.nat(50), fc.integer({ min: 1, max: 100 }), fc.nat(1000)), { maxLength: 4 })
    .map((pieces) => {
      let end = 0;
      return pieces.map(([gap, length, layerOffset]) => {
        const fileOffset = end + gap;
        end = fileOffset + length;
        return { fileOffset, length, layerOffset };
      });
    });
  const leaf = fc.oneof(
    fc.tuple(attributes, extents, fc.nat(500)).map(([fields, list, tail]) =>
      node("file", {
        ...fields,
        extents: list,
        fileBytes: (list.at(-1) ? list.at(-1)!.fileOffset + list.at(-1)!.length : 0) + tail,
      }),
    ),
    fc
      .tuple(attributes, nameArbitrary)
      .map(([fields, target]) => node("symlink", { ...fields, linkTarget: target })),
    fc
      .tuple(
        attributes,
        fc.constantFrom("character" as const, "block" as const),
        fc.nat(4095),
        fc.nat(2 ** 20 - 1),
      )
      .map(([fields, type, deviceMajor, deviceMinor]) => node(type, { ...fields, deviceMajor, deviceMinor })),
    attributes.map((fields) => node("fifo", fields)),
  );
  const { tree } = fc.letrec<{ tree: TreeNode; entry: TreeNode }>((tie) => ({
    entry: fc.oneof({ depthSize: "small", withCrossShrink: true }, leaf, tie("tree")),
    tree: fc
      .tuple(attributes, fc.array(fc.tuple(nameArbitrary, tie("entry")), { maxLength: 8 }))
      .map(([fields, children]) => node("directory", { ...fields, children: new Map(children) })),
  }));

  it("come back as they were, with hard links between any two directories", () => {
    fc.assert(
      fc.property(
        tree,
        fc.array(fc.tuple(fc.nat(), fc.nat(), nameArbitrary), { maxLength: 5 }),
        (root, links) => {
          const directories: TreeNode[] = [];
          const others: TreeNode[] = [];
          const visit = (of: TreeNode) => {
            (of.children ? directories : others).push(of);
            for (const child of of.children?.values() ?? []) visit(child);
          };
          visit(root);
          for (const [from, to, name] of links) {
            const target = others[from % Math.max(others.length, 1)];
            const parent = directories[to % directories.length]!;
            if (target && !parent.children!.has(name)) parent.children!.set(name, target);
          }
          expectSameTree(root, decodeArchive(encoded(contentsOf(root, [gzipLayer])), "random"));
        },
      ),
      { numRuns: 150 },
    );
  });
});

it("a hard-linked symlink is one inode with two names", () => {
  const link = symlink("target");
  const root = directory({ a: link, d: directory({ b: link }) });
  const archive = decodeArchive(encoded(contentsOf(root, [])), "links");
  expectSameTree(root, archive);
});
