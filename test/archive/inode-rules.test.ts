import { describe } from "vitest";
import { sectionBytes, withSections } from "./archive-bytes.js";
import { all, at, inode, itRefuses, longer, type Mutation, recordOf } from "./broken-archive.js";

const inodeRules: Mutation[] = [
  ["no inodes", /inodes: there is no root/, (a) => withSections(a, { inodes: Buffer.alloc(0) })],
  [
    "a root that is a file",
    /inodes record 0: the root is not a directory/,
    all(inode(1, 0, 4, 0o100644), inode(1, 52, 4, 0), inode(1, 48, 4, 0), inode(1, 44, 4, 0)),
  ],
  ["a root with another parent", /inodes record 0: parent is 2/, inode(1, 44, 4, 2)],
  ["a socket", /mode has no type/, inode(at("/dev/log"), 0, 4, 0o140644)],
  ["a type of 0", /mode has no type/, inode(at("/dev/log"), 0, 4, 0o644)],
  [
    "bits above the mode",
    new RegExp(`${recordOf("/dev/log")}mode has bits above`),
    inode(at("/dev/log"), 0, 4, 0x10000 + 0o010644),
  ],
  [
    "an owner that is none",
    new RegExp(`${recordOf("/old")}owner 4294967295:0`),
    inode(at("/old"), 4, 4, 0xffffffff),
  ],
  [
    "a group that is none",
    new RegExp(`${recordOf("/old")}owner 0:4294967295`),
    inode(at("/old"), 8, 4, 0xffffffff),
  ],
  ["a thousand million nanoseconds", /mtimeNsec is 1000000000/, inode(at("/old"), 32, 4, 1_000_000_000)],
  ["a time beyond 2^53", new RegExp(`${recordOf("/old")}mtimeSec`), inode(at("/old"), 24, 8, 2n ** 53n)],
  ["a time before -2^53", new RegExp(`${recordOf("/old")}mtimeSec`), inode(at("/old"), 24, 8, 2n ** 63n)],
  [
    "a file that is a device",
    new RegExp(`${recordOf("/old")}device 1:0 is above 0:0`),
    inode(at("/old"), 36, 4, 1),
  ],
  [
    "a device with a minor number of 21 bits",
    /device 1:1048576 is above 4095:1048575/,
    inode(at("/dev/null"), 40, 4, 1 << 20),
  ],
  ["nlink 0", new RegExp(`${recordOf("/old")}nlink is 0`), inode(at("/old"), 12, 4, 0)],
  [
    "nlink of a file too high",
    new RegExp(`${recordOf("/bin/su")}2 dirents name it, not 3`),
    inode(at("/bin/su"), 12, 4, 3),
  ],
  [
    "nlink of a file too low",
    new RegExp(`${recordOf("/bin/su")}2 dirents name it, not 1`),
    inode(at("/bin/su"), 12, 4, 1),
  ],
  [
    "nlink of a directory too high",
    /inodes record 0: nlink is 6, but it has 3 subdirectories/,
    inode(1, 12, 4, 6),
  ],
  [
    "nlink 1 for a directory",
    new RegExp(`${recordOf("/tmp")}nlink is 1, but it has 0`),
    inode(at("/tmp"), 12, 4, 1),
  ],
  [
    "a directory of another size",
    new RegExp(`${recordOf("/tmp")}size of a directory is 0`),
    inode(at("/tmp"), 16, 8, 0),
  ],
  ["a file with a parent", new RegExp(`${recordOf("/old")}parent is 1, though`), inode(at("/old"), 44, 4, 1)],
  [
    "a directory that is its own parent",
    new RegExp(`${recordOf("/tmp")}parent is ${at("/tmp")}, which is not below`),
    inode(at("/tmp"), 44, 4, at("/tmp")),
  ],
  [
    "a directory whose parent comes later",
    /which is not below its own/,
    inode(at("/bin"), 44, 4, at("/tmp")),
  ],
  ["a directory without a parent", new RegExp(`${recordOf("/tmp")}parent is 0`), inode(at("/tmp"), 44, 4, 0)],
  [
    "a file of 2^53 bytes",
    new RegExp(`${recordOf("/old")}size is not below`),
    inode(at("/old"), 16, 8, 2n ** 53n),
  ],
  [
    "a FIFO with a size",
    new RegExp(`${recordOf("/dev/log")}size, first and count`),
    inode(at("/dev/log"), 16, 8, 1),
  ],
  [
    "a FIFO with records",
    new RegExp(`${recordOf("/dev/log")}size, first and count`),
    inode(at("/dev/log"), 52, 4, 1),
  ],
  [
    "a symlink to nothing",
    new RegExp(`${recordOf("/bin/sh")}the target has 0 bytes`),
    inode(at("/bin/sh"), 52, 4, 0),
  ],
  [
    "a symlink of 4096 bytes",
    new RegExp(`${recordOf("/bin/sh")}the target has 4096 bytes`),
    inode(at("/bin/sh"), 52, 4, 4096),
  ],
  [
    "a symlink of another size",
    new RegExp(`${recordOf("/bin/sh")}size is 1, but`),
    inode(at("/bin/sh"), 16, 8, 1),
  ],
  [
    "a symlink beyond names",
    new RegExp(`${recordOf("/bin/sh")}its target reaches beyond`),
    inode(at("/bin/sh"), 48, 4, 0xfffffff0),
  ],
  [
    "dirents that overlap those of another directory",
    new RegExp(`${recordOf("/bin")}first is 0, but the dirents before end at`),
    inode(at("/bin"), 48, 4, 0),
  ],
  [
    "an empty directory somewhere else",
    new RegExp(`${recordOf("/tmp")}first is 0`),
    inode(at("/tmp"), 48, 4, 0),
  ],
  ["more dirents than there are", /inodes record 0: its dirents reach beyond/, inode(1, 52, 4, 0xffffffff)],
  [
    "fewer dirents than there are",
    new RegExp(`${recordOf("/dev")}first is`),
    (a) => inode(at("/bin"), 52, 4, 2)(a),
  ],
  ["dirents of no directory", /dirents record 14: belongs to no directory/, longer("dirents", 12)],
  [
    "extents that overlap those of another file",
    /but the extents before end at/,
    inode(at("/sparse"), 48, 4, 0),
  ],
  ["more extents than there are", /its extents reach beyond/, inode(at("/sparse"), 52, 4, 0xffffffff)],
  ["extents of no file", /extents record \d+: belongs to no file/, longer("extents", 32)],
  ["xattrs beyond the end", /inodes record 0: its xattrs reach beyond/, inode(1, 60, 4, 0xffffffff)],
  [
    "xattrs that nobody has before",
    /inodes record 0: xattrFirst is 1, but the sets before end at 0/,
    inode(1, 56, 4, 1),
  ],
  ["half of a set of xattrs", /overlap sets of other bounds/, inode(at("/old"), 60, 4, 1)],
  [
    "a set that begins within another",
    /overlap sets of other bounds/,
    all(inode(at("/old"), 56, 4, 1), inode(at("/old"), 60, 4, 1)),
  ],
  ["xattrFirst without xattrs", /xattrFirst is not 0 though/, inode(at("/tmp"), 56, 4, 1)],
  [
    "an inode that nothing names",
    /inodes record 14: 0 dirents name it, not 1/,
    (a) => {
      const fifo = Buffer.alloc(64);
      fifo.writeUInt32LE(0o010644, 0);
      fifo.writeUInt32LE(1, 12);
      return withSections(a, { inodes: Buffer.concat([sectionBytes(a, "inodes"), fifo]) });
    },
  ],
];

describe("inodes of an archive that somebody made", () => {
  itRefuses(inodeRules);
});
