/**
 * A session of the addon with a socket of packets in the place of /dev/fuse: tests are the kernel at its other end. The session has one thread
 * unless told otherwise, so requests are answered in the order they were sent, and what has no reply is seen by the reply to what comes next.
 */
import { closeSync, readdirSync, readlinkSync, read as readWithCallback, writeSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { expect } from "vitest";
import { openArchive } from "../../src/archive/archive-reader.js";
import type { ArchiveContents } from "../../src/archive/archive-writer.js";
import { SessionEvent, type SessionHandle, type TreeHandle } from "../../src/native/binding.js";
import { loadNative } from "../../src/native/load.js";
import { encoded } from "../archive/sample-archive.js";
import {
  decodeEntry,
  decodeReply,
  encodeRequest,
  initBody,
  lookupBody,
  opcodes,
  type Reply,
  rootNode,
} from "../support/fuse-protocol.js";
import { makeTempDir } from "../support/temp-dir.js";

export const native = loadNative();
const readPacket = promisify(readWithCallback);
/** More than any reply that tests ask for. */
const packetBytesMax = 256 * 1024;

/** The tree of an archive with these contents. */
export async function treeOf(contents: ArchiveContents): Promise<TreeHandle> {
  const file = path.join(await makeTempDir("protocol"), "image.skim");
  await writeFile(file, encoded(contents));
  const archive = await openArchive(file);
  const { inodes, dirents, names, extents, xattrs, xattrValues, layers, spans } = archive.servedSections();
  await archive.close();
  return native.treeOpen(
    inodes,
    dirents,
    names,
    extents,
    xattrs,
    xattrValues,
    layers,
    spans,
    archive.totals.fileBytes,
  );
}

/** Threads tell in a turn of the event loop to come, which is the next one or so. */
export const pollOptions = { interval: 1, timeout: 10_000 };

const eventNames = Object.fromEntries(Object.entries(SessionEvent).map(([name, kind]) => [kind, name]));
const running = new Set<SocketSession>();

export class SocketSession {
  readonly handle: SessionHandle;
  /** What the session has told, in order: name of a SessionEvent and its number. Spans that are touched are told apart. */
  readonly events: Array<readonly [event: string, value: number]> = [];
  readonly touched: number[] = [];
  /** The session's end, as /proc/self/fd names it. */
  readonly serverSocket: string;
  readonly #fd: number;
  readonly #early = new Map<bigint, Reply>();
  #unique = 0n;
  #isOpen = true;

  constructor(
    tree: TreeHandle,
    { threads = 1, initResult = new Uint8Array(0) }: { threads?: number; initResult?: Uint8Array } = {},
  ) {
    const [server, kernel] = native.socketPair(true);
    this.#fd = kernel;
    this.serverSocket = readlinkSync(`/proc/self/fd/${server}`);
    this.handle = native.sessionStart(server, tree, threads, false, initResult, "a socket", (events) => {
      for (let at = 0; at < events.length; at += 2) {
        const value = events[at + 1]!;
        if (events[at] === SessionEvent.spanTouched) this.touched.push(value);
        else this.events.push([eventNames[events[at]!]!, value]);
      }
    });
    running.add(this);
  }

  /** A session that has answered INIT. */
  static async initialized(tree: TreeHandle, options?: { threads?: number }): Promise<SocketSession> {
    const session = new SocketSession(tree, options);
    await session.ask(opcodes.init, 0n, initBody());
    await session.tells([["initialized", 45]]);
    session.events.length = 0;
    return session;
  }

  /** Sends a request and waits for nothing; gives its unique. */
  send(opcode: number, nodeid: bigint, body?: Uint8Array, length?: number): bigint {
    // Even ones, as the kernel counts.
    this.#unique += 2n;
    const request = encodeRequest(
      opcode,
      this.#unique,
      nodeid,
      body,
      length === undefined ? undefined : { length },
    );
    writeSync(this.#fd, request);
    return this.#unique;
  }

  /** The unique that the next request will have. */
  get nextUnique(): bigint {
    return this.#unique + 2n;
  }

  /** The reply to this request, whatever is answered before it. */
  async reply(unique: bigint): Promise<Reply> {
    while (!this.#early.has(unique)) {
      const reply = await this.next();
      this.#early.set(reply.unique, reply);
    }
    const reply = this.#early.get(unique)!;
    this.#early.delete(unique);
    return reply;
  }

  /** The next packet of the session. */
  async next(): Promise<Reply> {
    const { bytesRead, buffer } = await readPacket(
      this.#fd,
      Buffer.alloc(packetBytesMax),
      0,
      packetBytesMax,
      null,
    );
    return decodeReply(buffer.subarray(0, bytesRead));
  }

  /** Sends a request; the reply to it, which must be the next packet. */
  async ask(opcode: number, nodeid: bigint, body?: Uint8Array, length?: number): Promise<Reply> {
    const unique = this.send(opcode, nodeid, body, length);
    const reply = await this.next();
    expect(reply.unique).toBe(unique);
    return reply;
  }

  /** As ask, where it is the errno only that matters; a reply with an error has nothing else. */
  async errno(opcode: number, nodeid: bigint, body?: Uint8Array, length?: number): Promise<number> {
    const reply = await this.ask(opcode, nodeid, body, length);
    if (reply.error !== 0) expect(reply.body).toHaveLength(0);
    return Math.abs(reply.error);
  }

  /** Waits until all that it has told is this. */
  async tells(
    events: ReadonlyArray<readonly [event: keyof typeof SessionEvent, value: number]>,
  ): Promise<void> {
    await expect.poll(() => this.events, pollOptions).toEqual(events);
  }

  /** The node of a path of names below the root. */
  async node(...names: string[]): Promise<bigint> {
    let nodeid = rootNode;
    for (const name of names) {
      const { error, body } = await this.ask(opcodes.lookup, nodeid, lookupBody(Buffer.from(name, "latin1")));
      expect(error).toBe(0);
      nodeid = decodeEntry(body).nodeid;
    }
    return nodeid;
  }

  /** Closes the kernel's end, as unmounting does, and waits until the session has ended. */
  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    running.delete(this);
    closeSync(this.#fd);
    await expect.poll(() => this.events.at(-1), pollOptions).toEqual(["ended", 0]);
  }
}

/** For afterEach: a session that runs keeps the process alive. */
export async function closeSessions(): Promise<void> {
  for (const session of [...running]) await session.close();
}

/** Sockets of this process, as /proc/self/fd names them. */
export function openSockets(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith("socket:") ? [target] : [];
    } catch {
      // The descriptor that the directory was read by.
      return [];
    }
  });
}
