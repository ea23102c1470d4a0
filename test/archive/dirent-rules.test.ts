import { describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import { placeOf, reseal, sectionBytes, withSections } from "./archive-bytes.js";
import {
  all,
  at,
  dirent,
  extent,
  field,
  firstOf,
  good,
  inode,
  itRefuses,
  longer,
  type Mutation,
  recordOf,
  xattrOf,
} from "./broken-archive.js";
import { contentsOf, directory, encoded } from "./sample-archive.js";

const bin = firstOf("/bin");
/** The index of the dirent `name` of a directory. */
const positionOf = (directory: string, name: string) =>
  firstOf(directory) +
  [...decodeArchive(good, "good").dirents(at(directory))].findIndex((entry) => entry.name === name);
const direntRules: Mutation[] = [
  ["the root as an entry", /dirents record 0: inode is 1, not 2 to/, dirent(0, 0, 4, 1)],
  ["inode 0", /dirents record 0: inode is 0, not 2 to/, dirent(0, 0, 4, 0)],
  [
    "an inode that is not there",
    /dirents record 0: inode is 4294967295, not 2 to/,
    dirent(0, 0, 4, 0xffffffff),
  ],
  [
    "names that are not sorted",
    new RegExp(`dirents record ${bin + 1}: its name does not follow`),
    (a) => {
      const records = sectionBytes(a, "dirents");
      const first = Buffer.from(records.subarray(bin * 12, bin * 12 + 12));
      records.copy(records, bin * 12, bin * 12 + 12, bin * 12 + 24);
      first.copy(records, bin * 12 + 12);
    },
  ],
  [
    "a name twice",
    new RegExp(`dirents record ${bin + 2}: its name does not follow`),
    (a) => {
      const records = sectionBytes(a, "dirents");
      records.copy(records, (bin + 2) * 12 + 4, (bin + 1) * 12 + 4, (bin + 1) * 12 + 10);
    },
  ],
  ["a name beyond names", /dirents record 0: its name reaches beyond/, dirent(0, 4, 4, 0xffffffff)],
  ["a name without bytes", /dirents record 0: the name has 0 bytes/, dirent(0, 8, 2, 0)],
  ["a name of 256 bytes", /dirents record 0: the name has 256 bytes/, dirent(0, 8, 2, 256)],
  ["a name with a slash", /dirents record 0: its name has a slash/, (a) => named(a, "a/b")],
  ["the name .", /dirents record 0: its name is \. or \.\./, (a) => named(a, ".")],
  ["the name ..", /dirents record 0: its name is \. or \.\./, (a) => named(a, "..")],
  ["a type that is not the inode's", /dirents record 0: type is not 4, that of inode/, dirent(0, 10, 1, 8)],
  ["the reserved byte", /dirents record 0: the reserved byte/, dirent(0, 11, 1, 1)],
  [
    "a directory in two places",
    /it is in directory \d+, but the parent of \d+ is/,
    (a) => {
      const index = firstOf("/dev");
      all(dirent(index, 0, 4, at("/tmp")), dirent(index, 10, 1, 4))(a);
    },
  ],
  [
    "a directory that two names have",
    new RegExp(`${recordOf("/tmp")}2 dirents name it, not 1`),
    // /old becomes a second name of /tmp, /bin/su.old one of what /old was.
    all(
      dirent(positionOf("/", "old"), 0, 4, at("/tmp")),
      dirent(positionOf("/", "old"), 10, 1, 4),
      dirent(positionOf("/bin", "su.old"), 0, 4, at("/old")),
      inode(at("/bin/su"), 12, 4, 1),
      inode(1, 12, 4, 6),
    ),
  ],
  [
    "a NUL in names",
    /names: a NUL byte at offset \d+/,
    (a) => field("names", 1, placeOf(a, "names").length - 1, 0, 1, 0)(a),
  ],
];
function named(archive: Buffer, name: string): Buffer {
  const names = sectionBytes(archive, "names");
  const changed = withSections(archive, { names: Buffer.concat([names, Buffer.from(name)]) });
  all(dirent(0, 4, 4, names.length), dirent(0, 8, 2, name.length))(changed);
  return reseal(changed);
}

const sparse = firstOf("/sparse");
const extentRules: Mutation[] = [
  [
    "extents that overlap",
    new RegExp(`extents record ${sparse + 1}: fileOffset 149 is below`),
    extent(sparse + 1, 0, 8, 149),
  ],
  [
    "extents that descend",
    new RegExp(`extents record ${sparse + 2}: fileOffset 0 is below`),
    extent(sparse + 2, 0, 8, 0),
  ],
  ["an extent of nothing", new RegExp(`extents record ${sparse}: length is 0`), extent(sparse, 8, 8, 0)],
  ["an extent beyond the end of the file", /beyond the file's 10000 bytes/, extent(sparse + 2, 0, 8, 9_950)],
  ["an extent of 2^64 - 1 bytes", /beyond the file's 10000 bytes/, extent(sparse + 2, 8, 8, 2n ** 64n - 1n)],
  [
    "an extent beyond the layer",
    /it ends at 501, beyond the layer's 500 bytes/,
    extent(sparse + 2, 16, 8, 401),
  ],
  [
    "an extent that is 2^64 - 1 into the layer",
    /beyond the layer's 500 bytes/,
    extent(sparse + 2, 16, 8, 2n ** 64n - 1n),
  ],
  ["an extent of a layer that is not there", /layer is 3 of 3/, extent(sparse, 24, 4, 3)],
  ["an extent of layer 2^32 - 1", /layer is 4294967295 of 3/, extent(sparse, 24, 4, 0xffffffff)],
  ["reserved bytes", new RegExp(`extents record ${sparse}: reserved`), extent(sparse, 28, 4, 1)],
];

const xattrRules: Mutation[] = [
  ["reserved bytes", /xattrs record 0: reserved/, xattrOf(0, 6, 2, 1)],
  ["a name beyond names", /xattrs record 0: its name reaches beyond/, xattrOf(0, 0, 4, 0xffffffff)],
  ["a name without bytes", /xattrs record 0: the name has 0 bytes/, xattrOf(0, 4, 2, 0)],
  ["a name of 256 bytes", /xattrs record 0: the name has 256 bytes/, xattrOf(0, 4, 2, 256)],
  ["a value beyond xattrValues", /xattrs record 0: its value reaches beyond/, xattrOf(0, 8, 4, 0xffffffff)],
  ["a value of more than 64 KiB", /xattrs record 0: the value has 65537 bytes/, xattrOf(0, 12, 4, 65_537)],
  ["an empty value somewhere", /xattrs record 1: valueOffset of an empty value/, xattrOf(1, 8, 4, 1)],
  [
    "names that are not sorted",
    /xattrs record 1: its name does not follow/,
    (a) => {
      const records = sectionBytes(a, "xattrs");
      const first = Buffer.from(records.subarray(0, 16));
      records.copy(records, 0, 16, 32);
      first.copy(records, 16);
    },
  ],
  [
    "a name twice",
    /xattrs record 1: its name does not follow/,
    (a) => {
      const records = sectionBytes(a, "xattrs");
      records.copy(records, 16, 0, 6);
    },
  ],
  ["xattrs of no inode", /xattrs record 3: belongs to no inode/, longer("xattrs", 16)],
  ...["trusted.overlay.opaque", "user.overlay.redirect"].map(
    (name): Mutation => [
      `the xattr ${name}`,
      /would be obeyed by overlayfs/,
      (a) => {
        const names = sectionBytes(a, "names");
        const changed = withSections(a, { names: Buffer.concat([names, Buffer.from(name)]) });
        all(xattrOf(1, 0, 4, names.length), xattrOf(1, 4, 2, name.length))(changed);
        return reseal(changed);
      },
    ],
  ),
  [
    "a set with more names than the kernel lists",
    /the names of the set have more than 65536 bytes/,
    (a) => {
      // 300 names of 255 bytes that share theirs but for the first three characters.
      const names = sectionBytes(a, "names");
      const wide = Array.from(
        { length: 300 },
        (_, i) => `${String(i).padStart(3, "0")}${"n".repeat(252)}`,
      ).join("");
      const records = Buffer.alloc(300 * 16);
      for (let i = 0; i < 300; i++) {
        records.writeUInt32LE(names.length + i * 255, i * 16);
        records.writeUInt16LE(255, i * 16 + 4);
      }
      const changed = withSections(a, { names: Buffer.concat([names, Buffer.from(wide)]), xattrs: records });
      inode(1, 60, 4, 300)(changed);
      return reseal(changed);
    },
  ],
];

describe("dirents and names of an archive that somebody made", () => {
  itRefuses(direntRules);
});

describe("extents of an archive that somebody made", () => {
  itRefuses(extentRules);
});

describe("xattrs of an archive that somebody made", () => {
  itRefuses(xattrRules);
});

describe("hostile counts", () => {
  it("many inodes that share one large xattr set do not make opening slow", () => {
    // The set is checked once, where it is first used: else this test would run into its timeout.
    const count = 200_000;
    const inodes = Buffer.alloc((count + 1) * 64);
    const dirents = Buffer.alloc(count * 12);
    const names = Buffer.alloc(count * 7 + 250 * 255);
    const xattrs = Buffer.alloc(250 * 16);
    for (let i = 0; i < 250; i++) {
      names.write(`${String(i).padStart(3, "0")}${"n".repeat(252)}`, i * 255, "latin1");
      xattrs.writeUInt32LE(i * 255, i * 16);
      xattrs.writeUInt16LE(255, i * 16 + 4);
    }
    inodes.writeUInt32LE(0o040755, 0);
    inodes.writeUInt32LE(2, 12);
    inodes.writeUInt32LE(4096, 16);
    inodes.writeUInt32LE(1, 44);
    inodes.writeUInt32LE(count, 52);
    for (let i = 0; i < count; i++) {
      names.write(String(i).padStart(7, "0"), 250 * 255 + i * 7, "latin1");
      const record = (i + 1) * 64;
      inodes.writeUInt32LE(0o010644, record);
      inodes.writeUInt32LE(1, record + 12);
      inodes.writeUInt32LE(250, record + 60);
      dirents.writeUInt32LE(i + 2, i * 12);
      dirents.writeUInt32LE(250 * 255 + i * 7, i * 12 + 4);
      dirents.writeUInt16LE(7, i * 12 + 8);
      dirents.writeUInt8(1, i * 12 + 10);
    }
    const plain = encoded(contentsOf(directory(), []));
    const archive = decodeArchive(withSections(plain, { inodes, dirents, names, xattrs }), "wide");
    expect(archive.inodeCount).toBe(count + 1);
    expect(archive.xattrs(count)).toHaveLength(250);
  });
});
