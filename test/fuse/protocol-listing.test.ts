/** Directories, extended attributes and statfs of the native engine, byte by byte; see protocol.test.ts. */
import { constants } from "node:os";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import type { TreeHandle } from "../../src/native/binding.js";
import {
  contentsOf,
  directory,
  file,
  gzipLayer,
  node,
  sampleContents,
  symlink,
  xattr,
} from "../archive/sample-archive.js";
import {
  type DirectoryEntry,
  decodeDirectory,
  decodeEntry,
  decodeStatfs,
  decodeXattrNames,
  decodeXattrSize,
  getxattrBody,
  listxattrBody,
  lookupBody,
  opcodes,
  readdirBody,
  rootNode,
  statfsReplyBytes,
} from "../support/fuse-protocol.js";
import { closeSessions, SocketSession, treeOf } from "./socket-session.js";

const { ENODATA, ENOSYS, ENOTDIR, ERANGE } = constants.errno;

/** Around the multiples of 8 that entries are padded to, and the longest. */
const names = [1, 7, 8, 9, 100, 254, 255].map((length) => "n".repeat(length));

/** One of everything, with attributes. */
let sample: TreeHandle;
/** Without any attribute. */
let plain: TreeHandle;

beforeAll(async () => {
  sample = await treeOf(sampleContents());
  const children = Object.fromEntries(names.map((name) => [name, file(0, name.length)]));
  const many = directory({ ...children, sub: directory(), z: symlink("n") });
  plain = await treeOf(contentsOf(directory({ many, empty: directory(), file: file(0, 100) }), [gzipLayer]));
});

afterEach(closeSessions);

const kinds = [
  { name: "READDIR", opcode: opcodes.readdir, plus: false },
  { name: "READDIRPLUS", opcode: opcodes.readdirplus, plus: true },
];

describe.each(kinds)("$name", ({ opcode, plus }) => {
  const list = async (session: SocketSession, nodeid: bigint, offset: bigint, bytes: number) => {
    const { error, body } = await session.ask(opcode, nodeid, readdirBody(offset, bytes));
    expect(error).toBe(0);
    expect(body.length).toBeLessThanOrEqual(bytes);
    return decodeDirectory(body, plus);
  };
  const namesOf = (entries: readonly DirectoryEntry[]) => entries.map((entry) => `${entry.name}`);

  it("lists `.`, `..`, and all names in byte order, with node and type", async () => {
    const session = await SocketSession.initialized(sample);
    const entries = await list(session, rootNode, 0n, 65536);
    expect(entries.map(({ name, type }) => [name.toString("latin1"), type])).toEqual([
      [".", 4],
      ["..", 4],
      ["bin", 4],
      ["dev", 4],
      ["na\xc3\xafve", 8],
      ["new\nline", 8],
      ["old", 8],
      ["sparse", 8],
      ["tmp", 4],
      ["\xff\xfe", 10],
    ]);
    for (const { name, ino } of entries.slice(2))
      expect(ino).toBe(await session.node(name.toString("latin1")));
    const dev = await list(session, await session.node("dev"), 0n, 65536);
    expect(dev.map(({ name, type }) => [`${name}`, type])).toEqual([
      [".", 4],
      ["..", 4],
      ["log", 1],
      ["null", 2],
      ["sda", 6],
    ]);
  });

  it("gives `.` and `..` the numbers of the directory and its parent; the root's parent is the root", async () => {
    const session = await SocketSession.initialized(plain);
    const many = await session.node("many");
    const sub = await session.node("many", "sub");
    const numbers = async (nodeid: bigint) =>
      (await list(session, nodeid, 0n, 65536)).slice(0, 2).map(({ ino }) => ino);
    expect(await numbers(sub)).toEqual([sub, many]);
    expect(await numbers(many)).toEqual([many, rootNode]);
    expect(await numbers(rootNode)).toEqual([rootNode, rootNode]);
  });

  it("goes on from any offset that it has given, in replies of any size", async () => {
    const session = await SocketSession.initialized(plain);
    const many = await session.node("many");
    const all = await list(session, many, 0n, 65536);
    expect(namesOf(all)).toEqual([".", "..", ...names, "sub", "z"]);
    for (const [i, { next }] of all.entries())
      expect(await list(session, many, next, 65536)).toEqual(all.slice(i + 1));
    // From one entry a reply up to all of them.
    const longest = 24 + 256 + (plus ? 128 : 0);
    for (let bytes = longest; bytes < 2500; bytes += 88) {
      const found: DirectoryEntry[] = [];
      for (let piece = await list(session, many, 0n, bytes); piece.length > 0; ) {
        found.push(...piece);
        piece = await list(session, many, piece.at(-1)!.next, bytes);
      }
      expect(found, `in pieces of ${bytes}`).toEqual(all);
    }
  });

  it("behind the last name, in an empty directory and without room is at its end", async () => {
    const session = await SocketSession.initialized(plain);
    const many = await session.node("many");
    for (const offset of [names.length + 4, 1000, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n])
      expect(await list(session, many, BigInt(offset), 65536), `${offset}`).toEqual([]);
    expect(namesOf(await list(session, await session.node("empty"), 0n, 65536))).toEqual([".", ".."]);
    for (const bytes of [0, 1, 31, plus ? 159 : 31]) expect(await list(session, many, 0n, bytes)).toEqual([]);
  });

  it("of a file is ENOTDIR", async () => {
    const session = await SocketSession.initialized(plain);
    expect(await session.errno(opcode, await session.node("file"), readdirBody(0, 4096))).toBe(ENOTDIR);
  });
});

describe("an entry of READDIRPLUS", () => {
  it("is what LOOKUP says; of `.` and `..` there is none: node 0, which the kernel does not look at", async () => {
    const session = await SocketSession.initialized(sample);
    const { body } = await session.ask(opcodes.readdirplus, rootNode, readdirBody(0, 65536));
    const entries = decodeDirectory(body, true);
    for (const { entry } of entries.slice(0, 2)) expect(entry!.nodeid).toBe(0n);
    for (const { name, ino, entry } of entries.slice(2)) {
      const looked = await session.ask(opcodes.lookup, rootNode, lookupBody(name));
      expect(entry, `${name}`).toEqual(decodeEntry(looked.body));
      expect(entry!.nodeid).toBe(ino);
    }
  });
});

describe("attributes", () => {
  it("of every length are given for their size, and to a buffer that holds them; else ERANGE", async () => {
    const values = {
      "user.empty": "",
      "user.most": "m".repeat(65536),
      "user.one": "\0",
      "user.some": "\xfe".repeat(1000),
    };
    const xattrs = Object.entries(values).map(([name, value]) => xattr(name, value));
    const tree = await treeOf(contentsOf(directory({ file: node("file", { xattrs }) }), []));
    const session = await SocketSession.initialized(tree);
    const nodeid = await session.node("file");
    for (const [name, value] of Object.entries(values)) {
      const probe = await session.ask(opcodes.getxattr, nodeid, getxattrBody(name, 0));
      expect(probe.body).toHaveLength(8);
      expect(decodeXattrSize(probe.body)).toBe(value.length);
      for (const size of [value.length, value.length + 1, 65536].filter((bytes) => bytes > 0)) {
        const { error, body } = await session.ask(opcodes.getxattr, nodeid, getxattrBody(name, size));
        expect(error).toBe(0);
        expect(body.equals(Buffer.from(value, "latin1"))).toBe(true);
      }
      if (value.length > 1)
        expect(await session.errno(opcodes.getxattr, nodeid, getxattrBody(name, value.length - 1))).toBe(
          ERANGE,
        );
    }
  });

  it("are listed by name, in one order, under the same rules", async () => {
    const session = await SocketSession.initialized(sample);
    const nodeid = await session.node("bin", "su");
    const listed = ["security.capability", "user.note"];
    const bytes = listed.join("").length + listed.length;
    const probe = await session.ask(opcodes.listxattr, nodeid, listxattrBody(0));
    expect(decodeXattrSize(probe.body)).toBe(bytes);
    for (const size of [bytes, bytes + 1, 65536]) {
      const { body } = await session.ask(opcodes.listxattr, nodeid, listxattrBody(size));
      expect(decodeXattrNames(body).map(String)).toEqual(listed);
    }
    for (const size of [1, bytes - 1])
      expect(await session.errno(opcodes.listxattr, nodeid, listxattrBody(size))).toBe(ERANGE);
  });

  it("that a node lacks are ENODATA, and a node without any has an empty list", async () => {
    const session = await SocketSession.initialized(sample);
    const su = await session.node("bin", "su");
    for (const name of ["user.not", "user.note2", "security", "system.posix_acl_access"])
      for (const size of [0, 100])
        expect(await session.errno(opcodes.getxattr, su, getxattrBody(name, size))).toBe(ENODATA);
    const bin = await session.node("bin");
    expect(await session.errno(opcodes.getxattr, bin, getxattrBody("user.note", 0))).toBe(ENODATA);
    expect(decodeXattrSize((await session.ask(opcodes.listxattr, bin, listxattrBody(0))).body)).toBe(0);
    expect(await session.ask(opcodes.listxattr, bin, listxattrBody(100))).toMatchObject({
      error: 0,
      length: 16,
    });
  });

  it("of an image that has none are ENOSYS, so that the kernel asks no more", async () => {
    const session = await SocketSession.initialized(plain);
    for (const size of [0, 100]) {
      expect(await session.errno(opcodes.getxattr, rootNode, getxattrBody("user.note", size))).toBe(ENOSYS);
      expect(await session.errno(opcodes.listxattr, rootNode, listxattrBody(size))).toBe(ENOSYS);
    }
  });
});

describe("STATFS", () => {
  it("is the size of all files in blocks, none of them free, whatever it is asked of", async () => {
    const session = await SocketSession.initialized(sample);
    for (const nodeid of [rootNode, await session.node("bin", "su"), 0n]) {
      const { body } = await session.ask(opcodes.statfs, nodeid);
      expect(body).toHaveLength(statfsReplyBytes);
      expect(decodeStatfs(body)).toEqual({
        // 10,000 bytes of `sparse` and 220 of others.
        blocks: 3n,
        blocksFree: 0n,
        blocksAvailable: 0n,
        files: 14n,
        filesFree: 0n,
        blockBytes: 4096,
        nameBytesMax: 255,
        fragmentBytes: 4096,
      });
    }
  });
});
