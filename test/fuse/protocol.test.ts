/**
 * The native engine's answers, byte by byte, to a kernel that is this test: INIT as kernels of all ages send it, what has no answer or none but an
 * error, and names. A real kernel sends only some of it, in one dialect. Directories, attributes and reads are in the files beside this one.
 */
import { constants } from "node:os";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import type { TreeHandle } from "../../src/native/binding.js";
import { sampleContents } from "../archive/sample-archive.js";
import {
  accessBody,
  attrReplyBytes,
  batchForgetBody,
  decodeAttr,
  decodeEntry,
  decodeInit,
  entryBytes,
  forgetBody,
  getattrBody,
  getxattrBody,
  initBody,
  initFlags,
  initReplyBytes,
  listxattrBody,
  lookupBody,
  lseekBody,
  nameBody,
  offeredFlags,
  opcodes,
  openBody,
  readBody,
  readdirBody,
  releaseBody,
  rootNode,
} from "../support/fuse-protocol.js";
import { closeSessions, native, SocketSession, treeOf } from "./socket-session.js";

const { EINVAL, ENAMETOOLONG, ENOSYS, ENOTDIR, EPROTO, EROFS, ESTALE } = constants.errno;
const yearSec = BigInt(365 * 24 * 3600);

/** One of everything. */
let sample: TreeHandle;

beforeAll(async () => {
  sample = await treeOf(sampleContents());
});

afterEach(closeSessions);

/** Flags that exist and are no use here, and some that do not exist yet. */
const otherFlags = (1n << 4n) | (1n << 9n) | (1n << 16n) | (1n << 32n) | (1n << 63n);

describe("INIT", () => {
  it.each([
    // Linux 5.4 knows neither a second word of flags nor a body of more than 16 bytes.
    { name: "7.31", minor: 31, bytes: 16, agreed: 31 },
    { name: "7.35", minor: 35, bytes: 16, agreed: 35 },
    { name: "7.36", minor: 36, bytes: 64, agreed: 36 },
    { name: "7.45", minor: 45, bytes: 64, agreed: 45 },
    { name: "a minor that does not exist yet", minor: 99, bytes: 64, agreed: 45 },
  ])(
    "of $name is answered with the lower of both minors, and no flag that was not offered",
    async (kernel) => {
      const session = new SocketSession(sample);
      // EXPORT_SUPPORT (bit 4) is offered by every kernel: what comes of it is told in native/fuse/session.cc.
      const flags = offeredFlags | otherFlags;
      const body = initBody({ minor: kernel.minor, maxReadahead: 77_777, flags });
      const reply = await session.ask(opcodes.init, 0n, body.subarray(0, kernel.bytes));
      expect(reply.error).toBe(0);
      expect(reply.body).toHaveLength(initReplyBytes);
      // NO_EXPORT_SUPPORT, HAS_RESEND and ALLOW_IDMAP are in the second word.
      const words = kernel.bytes === 64 ? ~0n : 0xffff_ffffn;
      expect(decodeInit(reply.body)).toEqual({
        major: 7,
        minor: kernel.agreed,
        maxReadahead: 77_777,
        flags: offeredFlags & ~initFlags.asyncDio & words,
        maxBackground: 128,
        congestionThreshold: 96,
        maxWrite: 4096,
        timeGranularity: 1,
        // Half of it where this process may not have a pipe for more (native/fuse/reply-pipe.h).
        maxPages: expect.toBeOneOf([256, 128]),
      });
      await session.tells([["initialized", kernel.agreed]]);
    },
  );

  it.each(Object.entries(initFlags))("that offers %s alone is agreed to that at most", async (_, flag) => {
    const session = new SocketSession(sample);
    const { body } = await session.ask(opcodes.init, 0n, initBody({ flags: flag }));
    const { flags } = decodeInit(body);
    // The second word counts only where the first one says that it is there.
    const possible = flag === initFlags.asyncDio || flag > 0xffff_ffffn ? 0n : flag;
    expect(flags).toBe(possible);
    const both = new SocketSession(sample);
    const extended = await both.ask(opcodes.init, 0n, initBody({ flags: flag | initFlags.initExtended }));
    expect(decodeInit(extended.body).flags).toBe(
      (flag === initFlags.asyncDio ? 0n : flag) | initFlags.initExtended,
    );
  });

  it("of major 8 is answered with 7, and the kernel asks again", async () => {
    const session = new SocketSession(sample);
    const reply = await session.ask(opcodes.init, 0n, initBody({ major: 8, minor: 0 }));
    expect(reply.error).toBe(0);
    expect(decodeInit(reply.body)).toMatchObject({ major: 7, minor: 45, flags: 0n });
    expect(native.sessionInitResult(session.handle)).toHaveLength(0);
    const second = await session.ask(opcodes.init, 0n, initBody({ minor: 40 }));
    expect(decodeInit(second.body)).toMatchObject({ major: 7, minor: 40 });
    await session.tells([["initialized", 40]]);
  });

  it.each([
    [7, 30],
    [7, 0],
    [6, 99],
  ])("of %i.%i is refused with EPROTO", async (major, minor) => {
    const session = new SocketSession(sample);
    expect(await session.errno(opcodes.init, 0n, initBody({ major, minor }).subarray(0, 16))).toBe(EPROTO);
    await session.tells([["refused", minor]]);
    expect(native.sessionInitResult(session.handle)).toHaveLength(0);
  });

  it("that is cut off is EINVAL", async () => {
    const session = new SocketSession(sample);
    expect(await session.errno(opcodes.init, 0n, initBody().subarray(0, 15))).toBe(EINVAL);
    expect(native.sessionInitResult(session.handle)).toHaveLength(0);
  });

  it("is not needed by a session that is told what another agreed on", async () => {
    const first = new SocketSession(sample);
    expect(native.sessionInitResult(first.handle)).toHaveLength(0);
    await first.ask(opcodes.init, 0n, initBody({ flags: initFlags.initExtended | initFlags.hasResend }));
    const initResult = native.sessionInitResult(first.handle);
    expect(initResult).toHaveLength(16);
    await first.close();

    const second = new SocketSession(sample, { initResult });
    expect(native.sessionInitResult(second.handle)).toEqual(initResult);
    const { error, body } = await second.ask(opcodes.getattr, rootNode, getattrBody());
    expect(error).toBe(0);
    expect(decodeAttr(body).attributes.ino).toBe(rootNode);
    // It was agreed that requests can be sent again: FUSE_NOTIFY_RESEND, which answers no request.
    expect(native.sessionResend(second.handle)).toBe(true);
    expect(await second.next()).toMatchObject({ unique: 0n, error: 7, length: 16 });
    expect(second.events).toEqual([]);
  });

  it("without HAS_RESEND leaves nothing to be sent again", async () => {
    const session = new SocketSession(sample);
    await session.ask(opcodes.init, 0n, initBody({ minor: 39 }).subarray(0, 16));
    expect(native.sessionResend(session.handle)).toBe(false);
    // Nor was anything sent: the next packet is an answer.
    expect(await session.errno(opcodes.getattr, rootNode, getattrBody())).toBe(0);
  });

  it("that a server has read and not answered is asked for again by the next, before anything is agreed", async () => {
    const session = new SocketSession(sample);
    expect(native.sessionResend(session.handle)).toBe(true);
    expect(await session.next()).toMatchObject({ unique: 0n, error: 7, length: 16 });
    expect((await session.ask(opcodes.init, 0n, initBody())).error).toBe(0);
    await session.tells([["initialized", 45]]);
  });

  it("has been answered by a server that told nobody, where another request comes first", async () => {
    const session = new SocketSession(sample);
    expect(await session.errno(opcodes.getattr, rootNode, getattrBody())).toBe(0);
    await session.tells([["initialized", 31]]);
    // What is known of it is enough for the next one, and for sending again: the kernel itself says whether it can.
    expect(native.sessionInitResult(session.handle)).toHaveLength(16);
    expect(native.sessionResend(session.handle)).toBe(true);
    expect(await session.next()).toMatchObject({ unique: 0n, error: 7 });
    expect(await session.errno(opcodes.getattr, rootNode, getattrBody())).toBe(0);
    await session.tells([["initialized", 31]]);
  });

  it("of which nothing but its answer is known is not awaited", async () => {
    const session = new SocketSession(sample, { initResult: new Uint8Array(16) });
    expect(native.sessionInitResult(session.handle)).not.toEqual(new Uint8Array(16));
    expect(await session.errno(opcodes.getattr, rootNode, getattrBody())).toBe(0);
    expect(session.events).toEqual([]);
  });
});

describe("operations", () => {
  it.each([
    ["open", openBody()],
    ["opendir", openBody()],
    ["flush", Buffer.alloc(24)],
    ["access", accessBody(4)],
    ["lseek", lseekBody(0, 3)],
    ["statx", Buffer.alloc(24)],
    ["fsync", Buffer.alloc(16)],
    ["fsyncdir", Buffer.alloc(16)],
    ["getlk", Buffer.alloc(48)],
    ["setlk", Buffer.alloc(48)],
    ["setlkw", Buffer.alloc(48)],
    ["bmap", Buffer.alloc(16)],
    ["ioctl", Buffer.alloc(32)],
    ["poll", Buffer.alloc(24)],
    ["syncfs", Buffer.alloc(8)],
  ] as const)("that the kernel does by itself are ENOSYS: %s", async (name, body) => {
    const session = await SocketSession.initialized(sample);
    expect(await session.errno(opcodes[name], rootNode, body)).toBe(ENOSYS);
  });

  it("of a number that no kernel has yet are ENOSYS, and counted together", async () => {
    const session = await SocketSession.initialized(sample);
    for (const opcode of [53, 63, 64, 4096, 0xffff_ffff])
      expect(await session.errno(opcode, rootNode), `${opcode}`).toBe(ENOSYS);
    expect(native.sessionCounters(session.handle)[63]).toBe(4);
  });

  it.each([
    "setattr",
    "symlink",
    "mknod",
    "mkdir",
    "unlink",
    "rmdir",
    "rename",
    "rename2",
    "link",
    "write",
    "setxattr",
    "removexattr",
    "create",
    "tmpfile",
    "fallocate",
    "copyFileRange",
  ] as const)("that would change something are EROFS, whatever they say: %s", async (name) => {
    const session = await SocketSession.initialized(sample);
    for (const body of [Buffer.alloc(0), Buffer.alloc(128), nameBody("bin")])
      expect(await session.errno(opcodes[name], rootNode, body)).toBe(EROFS);
    expect(await session.errno(opcodes[name], 99_999n)).toBe(EROFS);
  });

  it("that let go of something succeed: there was nothing to hold", async () => {
    const session = await SocketSession.initialized(sample);
    expect(await session.errno(opcodes.release, rootNode, releaseBody())).toBe(0);
    expect(await session.errno(opcodes.releasedir, rootNode, releaseBody())).toBe(0);
    expect(await session.errno(opcodes.destroy, 0n)).toBe(0);
    // DESTROY is the kernel's last word before it closes; a session waits for that.
    expect(await session.errno(opcodes.getattr, rootNode, getattrBody())).toBe(0);
  });

  it("that forget have no reply", async () => {
    const session = await SocketSession.initialized(sample);
    session.send(opcodes.forget, rootNode, forgetBody(3n));
    session.send(opcodes.batchForget, 0n, batchForgetBody([[rootNode, 1n]]));
    session.send(opcodes.batchForget, 0n, batchForgetBody([], 1000));
    session.send(opcodes.forget, 99_999n);
    session.send(opcodes.notifyReply, 0n);
    expect(await session.errno(opcodes.getattr, rootNode, getattrBody())).toBe(0);
    // What was forgotten is as it was.
    expect(await session.errno(opcodes.lookup, rootNode, lookupBody("bin"))).toBe(0);
  });

  it("on nodes that are not in the archive are ESTALE", async () => {
    const session = await SocketSession.initialized(sample);
    for (const nodeid of [0n, 99_999n, 1n << 32n, (1n << 32n) + 1n, (1n << 64n) - 1n]) {
      for (const [name, body] of [
        ["getattr", getattrBody()],
        ["lookup", lookupBody("bin")],
        ["readlink", undefined],
        ["readdir", readdirBody(0, 4096)],
        ["readdirplus", readdirBody(0, 4096)],
        ["read", readBody(0, 4096)],
        ["getxattr", getxattrBody("user.note", 0)],
        ["listxattr", listxattrBody(0)],
      ] as const)
        expect(await session.errno(opcodes[name], nodeid, body), `${name} of ${nodeid}`).toBe(ESTALE);
    }
  });

  it("whose header has another length than the packet are EINVAL, and hold nothing up", async () => {
    const session = await SocketSession.initialized(sample);
    const body = lookupBody("bin");
    for (const length of [0, 39, 40 + body.length - 1, 40 + body.length + 1, 0xffff_ffff])
      expect(await session.errno(opcodes.lookup, rootNode, body, length), `${length}`).toBe(EINVAL);
    expect(await session.errno(opcodes.lookup, rootNode, body)).toBe(0);
  });

  it("whose body is cut off are EINVAL", async () => {
    const session = await SocketSession.initialized(sample);
    for (const [name, body] of [
      ["lookup", Buffer.alloc(0)],
      ["lookup", Buffer.from("no end")],
      ["lookup", nameBody("")],
      ["readdir", readdirBody(0, 4096).subarray(0, 39)],
      ["readdirplus", Buffer.alloc(0)],
      ["getxattr", getxattrBody("user.note", 0).subarray(0, 12)],
      ["getxattr", Buffer.alloc(7)],
      ["listxattr", Buffer.alloc(7)],
      ["read", readBody(0, 4096).subarray(0, 39)],
    ] as const)
      expect(await session.errno(opcodes[name], rootNode, body), name).toBe(EINVAL);
  });
});

describe("LOOKUP", () => {
  it("gives the node and its attributes for a year", async () => {
    const session = await SocketSession.initialized(sample);
    const bin = await session.node("bin");
    const { body } = await session.ask(opcodes.lookup, bin, lookupBody("su"));
    expect(body).toHaveLength(entryBytes);
    const entry = decodeEntry(body);
    expect(entry).toMatchObject({ generation: 0n, entryValidSec: yearSec, attrValidSec: yearSec });
    expect(entry.attributes).toMatchObject({
      ino: entry.nodeid,
      size: 100n,
      blocks: 1n,
      mode: 0o104755,
      nlink: 2,
      uid: 70_000,
      gid: 5,
      blockBytes: 4096,
    });
    const getattr = await session.ask(opcodes.getattr, entry.nodeid, getattrBody());
    expect(getattr.body).toHaveLength(attrReplyBytes);
    expect(decodeAttr(getattr.body)).toEqual({ attrValidSec: yearSec, attributes: entry.attributes });
  });

  it("of a hard link gives the same node", async () => {
    const session = await SocketSession.initialized(sample);
    expect(await session.node("bin", "su")).toBe(await session.node("bin", "su.old"));
  });

  it("gives times before 1970 to the nanosecond, and names that are no text", async () => {
    const session = await SocketSession.initialized(sample);
    const reply = await session.ask(opcodes.lookup, rootNode, lookupBody("old"));
    expect(decodeEntry(reply.body).attributes).toMatchObject({
      atimeSec: -1n,
      mtimeSec: -1n,
      ctimeSec: -1n,
      atimeNsec: 999_999_999,
      mtimeNsec: 999_999_999,
      ctimeNsec: 999_999_999,
    });
    const link = await session.ask(opcodes.readlink, await session.node("\xff\xfe"));
    expect(link.body).toEqual(Buffer.from("\xc3\x28", "latin1"));
  });

  it("of a name that is not there is node 0 for a year: the kernel remembers it", async () => {
    const session = await SocketSession.initialized(sample);
    for (const name of ["none", "bi", "bin0", "a", "~", "n".repeat(255)]) {
      const { error, body } = await session.ask(opcodes.lookup, rootNode, lookupBody(name));
      expect(error).toBe(0);
      expect(body).toHaveLength(entryBytes);
      expect(decodeEntry(body), name).toMatchObject({ nodeid: 0n, entryValidSec: yearSec });
    }
  });

  it("goes no further than names: `.` and `..` are the kernel's", async () => {
    const session = await SocketSession.initialized(sample);
    for (const name of [".", ".."])
      expect(
        decodeEntry((await session.ask(opcodes.lookup, await session.node("bin"), lookupBody(name))).body)
          .nodeid,
      ).toBe(0n);
  });

  it("of a longer name is ENAMETOOLONG, and in a file ENOTDIR", async () => {
    const session = await SocketSession.initialized(sample);
    expect(await session.errno(opcodes.lookup, rootNode, lookupBody("n".repeat(256)))).toBe(ENAMETOOLONG);
    expect(await session.errno(opcodes.lookup, await session.node("old"), lookupBody("x"))).toBe(ENOTDIR);
  });
});
