import { existsSync, mkdirSync, readdirSync } from "node:fs";
import path from "node:path";
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { type ByteString, byteStringFromText } from "../../src/base/byte-string.js";
import { FilesSession } from "../../src/copy/files-session.js";
import { encodeFrame, Payload } from "../../src/copy/frames.js";
import { HostWriter } from "../../src/copy/host-writer.js";
import { takeTree } from "../../src/copy/take-tree.js";
import { makeTempDir } from "../support/temp-dir.js";

/** What a container could send in place of skim-files' answers. */
const frame = (type: string, payload: Payload = new Payload()) => encodeFrame(type, payload.encode());
const entry = (kind: string, at: string, target = "", mtime = 0n) =>
  frame(
    "e",
    new Payload()
      .u8(kind.charCodeAt(0))
      .u32(0o644)
      .u32(0)
      .u32(0)
      .i64(0)
      .i64(mtime)
      .u32(0)
      .bytes(Buffer.from(at))
      .rest(Buffer.from(target)),
  );
const problem = (at: string, what = "looking at it") =>
  frame("w", new Payload().u32(13).bytes(Buffer.from(at)).rest(Buffer.from(what)));
const data = (text: string) => frame("d", new Payload().rest(Buffer.from(text)));
const fileEnd = frame("z", new Payload().u32(0));
const end = frame("r", new Payload().u32(0));

async function take(frames: readonly Buffer[]) {
  const dir = await makeTempDir("hostile");
  mkdirSync(path.join(dir, "inner"));
  const pieces = frames[Symbol.iterator]();
  const output = { next: async () => pieces.next().value as Uint8Array | undefined, close: () => {} };
  const session = new FilesSession({
    input: new PassThrough().resume(),
    output,
    ended: Promise.resolve("over"),
    kill: () => {},
  });
  const writer = await HostWriter.open(Buffer.from(path.join(dir, "inner")), byteStringFromText("out"));
  try {
    const limits = { entriesMax: 10, bytesMax: 100, depthMax: 3 };
    const taken = await takeTree(session, "/asked" as ByteString, writer, limits);
    return { taken, dir };
  } catch (error) {
    await writer.close();
    expect(readdirSync(dir)).toEqual(["inner"]);
    expect(readdirSync(path.join(dir, "inner")).filter((name) => name.startsWith(".skim"))).toEqual([]);
    return { error, dir };
  } finally {
    await writer.close();
  }
}

test("an honest answer is written", async () => {
  const { taken, dir } = await take([
    entry("d", ""),
    entry("f", "a"),
    data("x"),
    fileEnd,
    entry("l", "b", "/etc"),
    end,
  ]);
  expect(taken).toMatchObject({ files: 1, directories: 1, symlinks: 1, bytes: 1 });
  expect(readdirSync(path.join(dir, "inner/out"))).toEqual(["a", "b"]);
});

test.each([
  ["a path with ..", [entry("d", ""), entry("f", "../../escaped"), data("x"), fileEnd, end]],
  ["an absolute path", [entry("d", ""), entry("f", "/escaped"), fileEnd, end]],
  ["a path with an empty name", [entry("d", ""), entry("f", "a//b"), fileEnd, end]],
  ["a path with a NUL", [entry("d", ""), entry("f", "a\0b"), fileEnd, end]],
  [
    "a file below a symlink",
    [entry("d", ""), entry("l", "s", ".."), entry("f", "s/escaped"), data("x"), fileEnd, end],
  ],
  [
    "a directory in the place of a symlink",
    [entry("d", ""), entry("l", "s", "../.."), entry("d", "s"), entry("f", "s/escaped"), fileEnd, end],
  ],
  ["a file before its directory", [entry("f", "a/b"), fileEnd, end]],
  ["bytes of no file", [entry("d", ""), data("x"), end]],
  ["a file within another", [entry("d", ""), entry("f", "a"), entry("f", "b"), fileEnd, end]],
  ["an entry of an unknown kind", [entry("x", ""), end]],
  ["a frame of an unknown type", [frame("q"), end]],
  ["a frame that is too long", [Buffer.from([0x65, 0xff, 0xff, 0xff, 0x7f])]],
  ["a frame that is too short", [frame("e", new Payload().u8(0x66)), end]],
  ["an end in the middle of a file", [entry("f", ""), data("x")]],
  ["an end of a file that is none", [entry("d", ""), fileEnd, end]],
  ["a second end of a file", [entry("f", ""), fileEnd, fileEnd, end]],
  ["no bytes of a file", [entry("f", ""), frame("d"), fileEnd, end]],
  ["a problem outside", [entry("d", ""), problem("../x"), end]],
  ["a time that no clock has", [entry("f", "", "", 2n ** 62n), fileEnd, end]],
  ["nothing", []],
])("%s is refused, and nothing is made outside or left unfinished", async (_, frames) => {
  const { error, dir } = await take(frames);
  expect(error).toMatchObject({ code: expect.stringMatching(/^(RUNTIME_FAILED|LOCAL_IO)$/) });
  expect(existsSync(path.join(dir, "escaped"))).toBe(false);
});

test.each([
  ["entries", [entry("d", ""), ...Array.from({ length: 20 }, (_, i) => entry("d", `d${i}`))]],
  ["bytes", [entry("f", ""), data("x".repeat(101))]],
  ["problems", [entry("d", ""), ...Array.from({ length: 20 }, (_, i) => problem(`p${i}`))]],
  ["depth", [entry("d", ""), entry("d", "a"), entry("d", "a/b"), entry("d", "a/b/c"), entry("d", "a/b/c/d")]],
])("more %s than allowed are refused, whatever the container was asked for", async (_, frames) => {
  expect((await take([...frames, end])).error).toMatchObject({ code: "LIMIT_EXCEEDED" });
});

test("what cannot be read is told by its name, in a line of some length", async () => {
  const { taken } = await take([
    entry("d", ""),
    entry("f", "a"),
    fileEnd,
    problem("b", "x".repeat(200_000)),
    end,
  ]);
  expect(taken).toMatchObject({ files: 1, skipped: [{ path: "b", errno: "EACCES" }] });
  expect(taken!.skipped[0]!.error!.length).toBeLessThan(1000);
});

test("of a device nothing is made", async () => {
  const { taken } = await take([entry("o", ""), end]);
  expect(taken).toMatchObject({ files: 0, skipped: [{ path: "" }] });
});

test("a program that does not even die is left behind, and keeps nobody waiting", async () => {
  let close = () => {};
  const output = {
    next: () =>
      new Promise<undefined>((resolve) => {
        close = () => resolve(undefined);
      }),
    close: () => close(),
  };
  const ended = new Promise<string>(() => {});
  let kills = 0;
  const kill = () => void kills++;
  const session = new FilesSession({ input: new PassThrough(), output, ended, kill });
  const outcome = session.outcome();
  const writing = session
    .writeContent(Buffer.alloc(100_000))
    .then(() => session.writeContent(Buffer.alloc(100_000)));
  // Both are looked at when they may have failed already.
  outcome.catch(() => {});
  writing.catch(() => {});
  expect(await session.close()).toBe(true);
  await expect(outcome).rejects.toMatchObject({ code: "RUNTIME_FAILED" });
  await expect(writing).rejects.toMatchObject({ code: "RUNTIME_FAILED" });
  expect(kills).toBe(1);
}, 20_000);
