/** Reads of the native engine, and what it tells of the spans that it lacks: see protocol.test.ts. */
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { open, truncate, writeFile } from "node:fs/promises";
import { constants } from "node:os";
import path from "node:path";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  type CacheHandle,
  SESSION_OPCODES,
  SPAN_RECORD_BYTES,
  sessionCounterNames,
  type TreeHandle,
} from "../../src/native/binding.js";
import {
  contentsOf,
  directory,
  file,
  layerIndex,
  node,
  plainLayer,
  type SpanShape,
  symlink,
} from "../archive/sample-archive.js";
import { interruptBody, opcodes, readBody, rootNode } from "../support/fuse-protocol.js";
import { makeTempDir } from "../support/temp-dir.js";
import { closeSessions, native, openSockets, pollOptions, SocketSession, treeOf } from "./socket-session.js";

const { EINTR, EINVAL, EIO, EISDIR, ESTALE, ETIMEDOUT } = constants.errno;

/** Spans of 1000 bytes; the last one of 500. Behind them are the two spans of another layer. */
const spanBytes = 1000;
const layer = Buffer.from(Uint8Array.from({ length: 3500 }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
const spanOf = (index: number) => layer.subarray(index * spanBytes, (index + 1) * spanBytes);
const layerShape: SpanShape[] = [0, 1, 2, 3].map((i) => ({
  length: spanOf(i).length,
  compressedStart: i * spanBytes,
  compressedEnd: i * spanBytes + spanOf(i).length,
}));

let tree: TreeHandle;

beforeAll(async () => {
  const layers = [layerIndex("reads", "none", layer.length, layerShape), plainLayer];
  tree = await treeOf(
    contentsOf(
      directory({
        whole: file(0, layer.length),
        first: file(0, spanBytes),
        middle: file(1500, 1000),
        sparse: node("file", {
          fileBytes: 10_000_000,
          extents: [
            { fileOffset: 100, layerOffset: 10, length: 50 },
            { fileOffset: 200, layerOffset: 2990, length: 20 },
            // The first span once more, so that one read has two pieces of it.
            { fileOffset: 300, layerOffset: 500, length: 5 },
          ],
        }),
        empty: file(0, 0),
        link: symlink("whole"),
        sub: directory(),
      }),
      layers,
    ),
  );
});

afterEach(closeSessions);

const read = (session: SocketSession, nodeid: bigint, offset: number | bigint, size: number) =>
  session.send(opcodes.read, nodeid, readBody(offset, size));
const land = (session: SocketSession, span: number) =>
  native.sessionLanded(session.handle, span, spanOf(span));
const waiting = (session: SocketSession) => native.sessionDescribe(session.handle);

function counters(session: SocketSession): Record<string, number> {
  const values = native.sessionCounters(session.handle);
  return Object.fromEntries(sessionCounterNames.map((name, i) => [name, values[SESSION_OPCODES + i]!]));
}

describe("a read of spans that are not there", () => {
  it("tells once that a span is wanted, however many wait for it, and landing answers all", async () => {
    const session = await SocketSession.initialized(tree);
    const whole = await session.node("whole");
    const first = await session.node("first");
    const reads = [
      { unique: read(session, whole, 0, 100), expected: layer.subarray(0, 100) },
      { unique: read(session, first, 999, 100), expected: layer.subarray(999, 1000) },
      { unique: read(session, whole, 500, 1), expected: layer.subarray(500, 501) },
    ];
    // An answer to what was sent last says that all before it were taken up.
    expect(await session.errno(opcodes.lookup, rootNode, Buffer.from("x\0"))).toBe(0);
    await session.tells([["spanWanted", 0]]);
    expect(waiting(session)).toMatch(
      /waiting requests: 3\n(.*\n){3} {2}spans in flight: 1\n {4}span 0, 3 readers\n/,
    );
    land(session, 0);
    for (const { unique, expected } of reads)
      expect(await session.reply(unique)).toMatchObject({ error: 0, body: expected });
    expect(waiting(session)).toMatch(/waiting requests: 0\n {2}spans in flight: 0\n/);
    expect(counters(session)).toMatchObject({ reads: 3, readBytes: 102, waitedReads: 3, failedReads: 0 });
    expect(session.events).toHaveLength(1);
  });

  it("is answered when the last of them has landed, in whatever order they come", async () => {
    const session = await SocketSession.initialized(tree);
    const whole = await session.node("whole");
    const unique = read(session, whole, 500, 5000);
    await session.tells([0, 1, 2, 3].map((span) => ["spanWanted", span] as const));
    for (const span of [3, 0, 2]) land(session, span);
    // Nobody else's, twice, or of no span at all: nothing happens.
    for (const span of [0, 4, 5, 2 ** 32 - 1]) native.sessionLanded(session.handle, span, layer);
    expect(await session.errno(opcodes.statfs, rootNode)).toBe(0);
    land(session, 1);
    expect(await session.next()).toMatchObject({ unique, error: 0, body: layer.subarray(500) });
  });

  it("holds up no other request: one thread goes on answering", async () => {
    const session = await SocketSession.initialized(tree);
    const whole = await session.node("whole");
    const uniques = [];
    for (let i = 0; i < 100; i++) uniques.push(read(session, whole, i, 10));
    const other = read(session, whole, 2000, 10);
    await session.tells([
      ["spanWanted", 0],
      ["spanWanted", 2],
    ]);
    expect(await session.errno(opcodes.statfs, rootNode)).toBe(0);
    land(session, 2);
    expect(await session.next()).toMatchObject({ unique: other, body: layer.subarray(2000, 2010) });
    land(session, 0);
    for (const [i, unique] of uniques.entries())
      expect((await session.reply(unique)).body).toEqual(layer.subarray(i, i + 10));
  });

  it("gets the errno that a span failed with, and its other spans are unwanted", async () => {
    const session = await SocketSession.initialized(tree);
    const whole = await session.node("whole");
    const both = read(session, whole, 900, 200);
    const alone = read(session, whole, 0, 10);
    await session.tells([
      ["spanWanted", 0],
      ["spanWanted", 1],
    ]);
    native.sessionFailed(session.handle, 0, ETIMEDOUT);
    for (const unique of [both, alone])
      expect(await session.reply(unique)).toMatchObject({ error: -ETIMEDOUT, length: 16 });
    await session.tells([
      ["spanWanted", 0],
      ["spanWanted", 1],
      ["spanUnwanted", 1],
    ]);
    expect(counters(session)).toMatchObject({ reads: 0, failedReads: 2 });
    // Not remembered: the next one is wanted anew.
    const next = read(session, whole, 0, 10);
    await expect.poll(() => session.events.slice(3), pollOptions).toEqual([["spanWanted", 0]]);
    land(session, 0);
    expect(await session.reply(next)).toMatchObject({ error: 0, body: layer.subarray(0, 10) });
  });

  it("of holes and data is one reply, and a hole alone waits for nothing", async () => {
    const session = await SocketSession.initialized(tree);
    const sparse = await session.node("sparse");
    const hole = await session.ask(opcodes.read, sparse, readBody(400, 5000));
    expect(hole.body.equals(Buffer.alloc(5000))).toBe(true);
    const expected = Buffer.alloc(1000);
    layer.copy(expected, 100, 10, 60);
    layer.copy(expected, 200, 2990, 3010);
    layer.copy(expected, 300, 500, 505);
    const unique = read(session, sparse, 0, 1000);
    await session.tells([0, 2, 3].map((span) => ["spanWanted", span] as const));
    for (const span of [2, 3, 0]) land(session, span);
    const reply = await session.next();
    expect(reply.unique).toBe(unique);
    expect(reply.body.equals(expected)).toBe(true);
  });
});

describe("a read", () => {
  it("behind the end is empty, whatever its offset, and an empty one waits for nothing", async () => {
    const session = await SocketSession.initialized(tree);
    const whole = await session.node("whole");
    for (const offset of [3500n, 3501n, 1n << 32n, 1n << 63n, (1n << 64n) - 1n, (1n << 64n) - 4096n])
      expect(await session.ask(opcodes.read, whole, readBody(offset, 4096))).toMatchObject({
        error: 0,
        length: 16,
      });
    expect(await session.ask(opcodes.read, whole, readBody(10, 0))).toMatchObject({ error: 0, length: 16 });
    expect((await session.ask(opcodes.read, await session.node("empty"), readBody(0, 4096))).length).toBe(16);
    expect(session.events).toEqual([]);
  });

  it("of what is no file is refused as read(2) does, and so is one that no kernel makes", async () => {
    const session = await SocketSession.initialized(tree);
    const errnos = async (name: string, size = 4096) =>
      session.errno(opcodes.read, await session.node(name), readBody(0, size));
    expect(await errnos("sub")).toBe(EISDIR);
    expect(await errnos("link")).toBe(EINVAL);
    expect(await errnos("empty", 64 * 1024 * 1024 + 1)).toBe(EINVAL);
    expect(await session.errno(opcodes.read, 1000n, readBody(0, 1))).toBe(ESTALE);
    expect(counters(session).failedReads).toBe(4);
  });
});

describe("INTERRUPT", () => {
  it("of the last read that waits for a span answers it with EINTR, and the span is unwanted", async () => {
    const session = await SocketSession.initialized(tree);
    const middle = await session.node("middle");
    const unique = read(session, middle, 0, 1000);
    session.send(opcodes.interrupt, 0n, interruptBody(unique));
    expect(await session.next()).toMatchObject({ unique, error: -EINTR, length: 16 });
    // It has no answer itself.
    expect(await session.errno(opcodes.statfs, rootNode)).toBe(0);
    await session.tells([
      ["spanWanted", 1],
      ["spanWanted", 2],
      ["spanUnwanted", 1],
      ["spanUnwanted", 2],
    ]);
    expect(counters(session)).toMatchObject({ reads: 0, failedReads: 0, interruptedReads: 1 });
    // What lands after all is nobody's.
    land(session, 1);
    expect(waiting(session)).toMatch(/waiting requests: 0\n {2}spans in flight: 0\n/);
  });

  it("of one read of several leaves the others waiting", async () => {
    const session = await SocketSession.initialized(tree);
    const whole = await session.node("whole");
    const [first, second] = [read(session, whole, 0, 10), read(session, whole, 990, 20)];
    session.send(opcodes.interrupt, 0n, interruptBody(first));
    expect(await session.next()).toMatchObject({ unique: first, error: -EINTR });
    land(session, 0);
    land(session, 1);
    expect(await session.next()).toMatchObject({ unique: second, body: layer.subarray(990, 1010) });
    expect(session.events).toEqual([
      ["spanWanted", 0],
      ["spanWanted", 1],
    ]);
  });

  it("that comes before its read ends it as well, and nothing waits", async () => {
    const session = await SocketSession.initialized(tree);
    const whole = await session.node("whole");
    session.send(opcodes.interrupt, 0n, interruptBody(session.nextUnique + 2n));
    const unique = read(session, whole, 0, 10);
    expect(await session.next()).toMatchObject({ unique, error: -EINTR });
    expect(waiting(session)).toMatch(/waiting requests: 0\n {2}spans in flight: 0\n/);
    expect(session.events).toEqual([]);
    // It was that read's alone.
    const next = read(session, whole, 0, 10);
    await session.tells([["spanWanted", 0]]);
    land(session, 0);
    expect(await session.next()).toMatchObject({ unique: next, error: 0 });
  });

  it("of what is answered already, unknown or cut off does nothing", async () => {
    const session = await SocketSession.initialized(tree);
    const whole = await session.node("whole");
    const unique = read(session, whole, 0, 10);
    await session.tells([["spanWanted", 0]]);
    land(session, 0);
    expect(await session.next()).toMatchObject({ unique, error: 0 });
    session.send(opcodes.interrupt, 0n, interruptBody(unique));
    session.send(opcodes.interrupt, 0n, interruptBody(1_000_000n));
    session.send(opcodes.interrupt, 0n, interruptBody(unique).subarray(0, 7));
    expect(await session.errno(opcodes.statfs, rootNode)).toBe(0);
    expect(session.events).toHaveLength(1);
  });
});

describe("a cache that is attached", () => {
  /** Has the first three of the layer's spans, of which the third is damaged. */
  async function openCache(): Promise<{ cache: CacheHandle; dataFile: string }> {
    const dir = await makeTempDir("protocol-cache");
    const dataFile = path.join(dir, "data");
    const mapFile = path.join(dir, "map");
    const data = Buffer.from(layer);
    data[2 * spanBytes + 99]! ^= 1;
    await writeFile(dataFile, data);
    // A header of 64 bytes, then one byte a span (src/cache/presence-map.ts).
    await writeFile(mapFile, Buffer.concat([Buffer.alloc(64), Buffer.from([1, 1, 1, 0])]));
    const { spanRecords } = layerIndex("reads", "none", layer.length, layerShape);
    for (let i = 0; i < layerShape.length; i++)
      spanRecords.set(createHash("sha256").update(spanOf(i)).digest(), i * SPAN_RECORD_BYTES + 48);
    const files = [await open(dataFile), await open(mapFile)] as const;
    const cache = native.cacheOpen(files[0].fd, files[1].fd, spanRecords);
    for (const one of files) await one.close();
    return { cache, dataFile };
  }

  it("answers without a word, each span once it has been verified", async () => {
    const session = await SocketSession.initialized(tree);
    const { cache } = await openCache();
    native.sessionAttach(session.handle, 0, cache);
    const whole = await session.node("whole");
    const ask = async (offset: number, size: number) =>
      (await session.ask(opcodes.read, whole, readBody(offset, size))).body;
    expect(await ask(900, 200)).toEqual(layer.subarray(900, 1100));
    expect([...native.cacheVerified(cache)]).toEqual([1, 1, 0, 0]);
    expect(counters(session)).toMatchObject({ verifiedSpans: 2, cachedSpans: 0, waitedReads: 1 });
    const used = native.cacheUsed(cache);
    expect([...used]).toEqual([1, 1, 0, 0]);
    used.fill(0);
    expect(await ask(1100, 200)).toEqual(layer.subarray(1100, 1300));
    expect([...used]).toEqual([0, 1, 0, 0]);
    expect(await ask(0, 2000)).toEqual(layer.subarray(0, 2000));
    expect(counters(session)).toMatchObject({ verifiedSpans: 2, cachedSpans: 3, waitedReads: 1, reads: 3 });
    expect(session.events).toEqual([]);
    native.cacheClose(cache);
    // Closed by JavaScript, and still held by the session.
    expect(await ask(10, 20)).toEqual(layer.subarray(10, 30));
  });

  it("is verified before it is read where that was asked for, and no read waits then", async () => {
    const session = await SocketSession.initialized(tree);
    const { cache } = await openCache();
    native.sessionAttach(session.handle, 0, cache);
    const asked = Array.from({ length: 8 }, () => native.cacheVerifyAhead(cache, Uint32Array.of(3, 2, 1, 0)));
    await Promise.all(asked);
    expect([...native.cacheVerified(cache)]).toEqual([1, 1, 0, 0]);
    expect([...native.cacheUsed(cache)]).toEqual([0, 0, 0, 0]);
    const whole = await session.node("whole");
    const { body } = await session.ask(opcodes.read, whole, readBody(900, 200));
    expect(body).toEqual(layer.subarray(900, 1100));
    expect(counters(session)).toMatchObject({ verifiedSpans: 0, cachedSpans: 2, waitedReads: 0 });
    expect(() => native.cacheVerifyAhead(cache, Uint32Array.of(0, 4))).toThrow("spans of the layer");
  });

  it("is right while its spans are read and verified by many at once", async () => {
    const session = await SocketSession.initialized(tree);
    const whole = await session.node("whole");
    for (let round = 0; round < 50; round++) {
      const { cache } = await openCache();
      native.sessionAttach(session.handle, 0, cache);
      const ahead = [0, 1, 2].map(() => native.cacheVerifyAhead(cache, Uint32Array.of(0, 1)));
      const reads = [0, 1, 2].map(() => read(session, whole, 0, 2000));
      for (const _ of reads)
        expect(await session.next()).toMatchObject({ error: 0, body: layer.subarray(0, 2000) });
      await Promise.all(ahead);
      expect([...native.cacheVerified(cache)]).toEqual([1, 1, 0, 0]);
      native.cacheClose(cache);
    }
    expect(session.events).toEqual([]);
  });

  it("is not believed: damaged and absent spans are wanted, and the reader gets what lands", async () => {
    const session = await SocketSession.initialized(tree);
    const { cache } = await openCache();
    native.sessionAttach(session.handle, 0, cache);
    const unique = read(session, await session.node("whole"), 0, 3500);
    await session.tells([
      ["spanWanted", 2],
      ["spanWanted", 3],
    ]);
    land(session, 2);
    land(session, 3);
    expect(await session.next()).toMatchObject({ unique, error: 0, body: layer });
    expect([...native.cacheVerified(cache)]).toEqual([1, 1, 0, 0]);
  });

  it("that was cut off after it was verified, or is taken away, makes its spans wanted again", async () => {
    const session = await SocketSession.initialized(tree);
    const { cache, dataFile } = await openCache();
    native.sessionAttach(session.handle, 0, cache);
    const whole = await session.node("whole");
    expect((await session.ask(opcodes.read, whole, readBody(0, 1500))).body).toEqual(layer.subarray(0, 1500));
    await truncate(dataFile, 1200);
    const cut = read(session, whole, 500, 1000);
    await session.tells([["spanWanted", 1]]);
    land(session, 1);
    expect(await session.next()).toMatchObject({ unique: cut, body: layer.subarray(500, 1500) });
    native.sessionAttach(session.handle, 0, null);
    const without = read(session, whole, 0, 10);
    await session.tells([
      ["spanWanted", 1],
      ["spanWanted", 0],
    ]);
    land(session, 0);
    expect(await session.next()).toMatchObject({ unique: without, body: layer.subarray(0, 10) });
  });
});

describe("the end of the connection", () => {
  const threadCount = () => readdirSync("/proc/self/task").length;

  it("ends the session: no thread and no descriptor stays, and what waits is forgotten", async () => {
    // The pool that node reads with has started all of its threads by then.
    await Promise.all([0, 1, 2, 3, 4, 5].map(() => open("/dev/null").then((one) => one.close())));
    const before = threadCount();
    const session = await SocketSession.initialized(tree, { threads: 5 });
    // And one that answers reads whose spans have landed.
    expect(threadCount()).toBe(before + 6);
    expect(openSockets()).toContain(session.serverSocket);
    const whole = await session.node("whole");
    for (let i = 0; i < 20; i++) read(session, whole, i * 170, 1000);
    await expect.poll(() => waiting(session), pollOptions).toMatch(/waiting requests: 20\n/);
    await session.close();
    expect(threadCount()).toBe(before);
    expect(openSockets()).not.toContain(session.serverSocket);
    expect(session.events.filter(([event]) => event === "ended")).toHaveLength(1);
    expect(waiting(session)).toMatch(/waiting requests: 0\n {2}spans in flight: 0\n/);
  });

  it("leaves a handle that can be asked and told, to no effect", async () => {
    const session = await SocketSession.initialized(tree);
    await session.close();
    land(session, 0);
    native.sessionFailed(session.handle, 0, EIO);
    native.sessionAttach(session.handle, 0, null);
    expect(native.sessionResend(session.handle)).toBe(false);
    expect(native.sessionInitResult(session.handle)).toHaveLength(16);
    expect(counters(session)).toMatchObject({ reads: 0 });
    expect(session.events).toEqual([["ended", 0]]);
  });
});

describe("letting go of the connection", () => {
  it("answers the requests that it has read, and ends then", async () => {
    const session = await SocketSession.initialized(tree, { threads: 4 });
    const whole = await session.node("whole");
    const unique = read(session, whole, 0, 100);
    await session.tells([["spanWanted", 0]]);
    native.sessionRelease(session.handle, 60_000);
    expect(session.events).toEqual([["spanWanted", 0]]);
    land(session, 0);
    const { body } = await session.reply(unique);
    expect(body).toEqual(layer.subarray(0, 100));
    await session.tells([
      ["spanWanted", 0],
      ["ended", 0],
    ]);
    expect(openSockets()).not.toContain(session.serverSocket);
    // Again, and after its end: nothing.
    native.sessionRelease(session.handle, 0);
  });

  it("leaves what has not come in its time, without a word", async () => {
    const session = await SocketSession.initialized(tree);
    const whole = await session.node("whole");
    read(session, whole, 0, 100);
    await session.tells([["spanWanted", 0]]);
    native.sessionRelease(session.handle, 0);
    await session.tells([
      ["spanWanted", 0],
      ["ended", 0],
    ]);
    land(session, 0);
    expect(counters(session)).toMatchObject({ reads: 0, failedReads: 0, interruptedReads: 0 });
    expect(openSockets()).not.toContain(session.serverSocket);
  });

  it("of a session whose connection ends meanwhile ends once", async () => {
    const session = await SocketSession.initialized(tree, { threads: 4 });
    native.sessionRelease(session.handle, 60_000);
    await session.close();
    expect(session.events).toEqual([["ended", 0]]);
  });
});
