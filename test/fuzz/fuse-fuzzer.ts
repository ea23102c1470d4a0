/**
 * Sessions of the native engine on a socket, with this fuzzer as the kernel, the network and the disk.
 *
 * An input is a tree, cache files, and a list of actions. A session is served all of it, and then everything must be as before: no thread and no
 * descriptor left. How a wanted span is answered follows from its number, so that only the threads decide what differs from one run to the next.
 */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  stat,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Archive } from "../../src/archive/archive.js";
import {
  type CacheHandle,
  type NativeBinding,
  SESSION_OPCODES,
  SessionEvent,
  type SessionHandle,
  sessionCounterNames,
} from "../../src/native/binding.js";
import { encodeRequest, initBody, interruptBody, opcodes, rootNode } from "../support/fuse-protocol.js";
import { openedOr } from "./archive-fuzzer.js";
import type { Corpus } from "./corpus.js";
import { checkAgainst } from "./fuse-checks.js";
import { FuzzKernel } from "./fuse-kernel.js";
import { RequestMaker } from "./fuse-requests.js";
import {
  type CacheInput,
  contentBytesMax,
  exactSections,
  makeCache,
  makeTree,
  spanContent,
  type TreeInput,
} from "./fuse-trees.js";
import { claim, exact, type Fuzzer } from "./fuzzer.js";
import type { Random } from "./random.js";

type Action =
  | { readonly does: "request"; readonly packet: Buffer }
  | {
      readonly does: "truncate";
      readonly cache: number;
      readonly file: "data" | "map";
      readonly bytes: number;
    }
  | { readonly does: "attach"; readonly layer: number; readonly cache: number | undefined }
  | { readonly does: "turn" | "describe" | "collect" };

interface FuseInput {
  readonly tree: TreeInput;
  readonly threads: number;
  readonly trace: boolean;
  readonly initResult: Buffer;
  readonly caches: readonly CacheInput[];
  readonly actions: readonly Action[];
  /** What becomes of wanted spans, by their number. */
  readonly answers: readonly Answer[];
  /** What becomes of requests that wait at the end. */
  readonly ending: "interrupt" | "land" | "leave";
}

const answers = [
  "land",
  "land",
  "later",
  "later",
  "short",
  "long",
  "fail",
  "never",
  "never",
  "never",
] as const;
type Answer = (typeof answers)[number];

/** So few that the interruptions among them, which the engine may have to remember, are fewer than it remembers. */
const actionsMax = 110;

export async function fuseFuzzer(native: NativeBinding, corpus: Corpus): Promise<Fuzzer<FuseInput>> {
  await startPoolThreads();
  const abandoned: SessionHandle[] = [];
  let describe = () => "no session";
  return {
    make: (random) => makeInput(random, corpus),
    async run(input) {
      const before = ownedByProcess();
      const dir = mkdtempSync(path.join(tmpdir(), "skim-fuzz-"));
      let reached: readonly string[];
      try {
        const session = new FuzzedSession(native, input, dir);
        describe = () => session.describe();
        reached = await session.run();
      } finally {
        rmSync(dir, { recursive: true, force: true });
      }
      // A thread that has been joined may still be listed for a moment.
      while (ownedByProcess().threads > before.threads) await turn();
      const left = ownedByProcess().descriptors - before.descriptors;
      claim(left === 0, `${left} descriptors are left`);
      return [input.tree.origin, ...reached];
    },
    describe: () => describe(),
    /** A process may end with sessions in the middle of everything: their threads must not notice that things are taken down. */
    async abandon() {
      for (let i = 0; i < 4; i++) abandoned.push(await abandonedSession(native, corpus));
    },
  };
}

function makeInput(random: Random, corpus: Corpus): FuseInput {
  const tree = makeTree(random, corpus.archives);
  const opened = tree.archive.length > 0 ? (openedOr(tree.archive) as Archive) : undefined;
  const caches = Array.from({ length: random.pick([0, 1, 1, 2]) }, () => makeCache(random, tree, opened));
  const made = caches.filter((cache) => cache !== undefined);
  const requests = new RequestMaker(random, tree.sections);
  const initResult = Buffer.alloc(random.oneIn(4) ? 16 : 0);
  if (initResult.length > 0) initResult.writeUInt32LE(1, 0);
  return {
    tree,
    threads: random.pick([1, 2, 3, 4, 8]),
    trace: random.oneIn(8),
    initResult,
    caches: made,
    actions: Array.from({ length: random.between(10, actionsMax) }, () => makeAction(random, requests, made)),
    answers: Array.from({ length: random.between(1, 12) }, () => random.pick(answers)),
    ending: random.pick(["interrupt", "land", "leave"] as const),
  };
}

function makeAction(random: Random, requests: RequestMaker, caches: readonly CacheInput[]): Action {
  if (random.oneIn(400)) return { does: "collect" };
  if (random.oneIn(30)) return { does: "describe" };
  if (random.oneIn(6)) return { does: "turn" };
  if (caches.length > 0 && random.oneIn(12)) {
    const cache = random.below(caches.length);
    const { layer, data, map } = caches[cache]!;
    if (random.oneIn(2))
      return {
        does: "attach",
        // Another layer that there is would be answered from the wrong files, and rightly.
        layer: random.oneIn(5) ? random.pick([64, 65_535, 0xffffffff]) : layer,
        cache: random.oneIn(3) ? undefined : cache,
      };
    const file = random.pick(["data", "map"] as const);
    return { does: "truncate", cache, file, bytes: random.below((file === "data" ? data : map).length + 1) };
  }
  return { does: "request", packet: requests.next() };
}

interface OpenCache {
  readonly handle: CacheHandle;
  readonly verified: Uint8Array;
  readonly data: number;
  readonly map: number;
}

class FuzzedSession {
  readonly #native: NativeBinding;
  readonly #input: FuseInput;
  readonly #archive: Archive | undefined;
  readonly #spanRecords: Buffer;
  readonly #caches: OpenCache[];
  readonly #handle: SessionHandle;
  readonly #kernel: FuzzKernel;
  readonly #ended: Promise<void>;
  /** Spans that were landed with other bytes than theirs. */
  readonly #unsure = new Set<number>();
  readonly #never = new Set<number>();
  #answersAll = false;
  #hasEnded = false;
  #failure: unknown;

  constructor(native: NativeBinding, input: FuseInput, dir: string) {
    this.#native = native;
    this.#input = input;
    const { archive, sections } = input.tree;
    this.#archive = archive.length > 0 ? (openedOr(archive) as Archive) : undefined;
    this.#spanRecords = Buffer.from(sections.spans);
    this.#caches = input.caches.map((cache, i) => this.#openCache(cache, path.join(dir, `${i}`)));
    const [server, kernel] = native.socketPair(true);
    this.#kernel = new FuzzKernel(kernel, (request, reply) => {
      if (this.#archive) checkAgainst(this.#archive, request, reply, (span) => this.#unsure.has(span));
    });
    let end = () => {};
    this.#ended = new Promise((resolve) => {
      end = resolve;
    });
    const onEvents = (events: Uint32Array) => {
      try {
        if (this.#take(events)) end();
      } catch (error) {
        this.#failure ??= error;
      }
    };
    const { threads, trace, initResult } = input;
    this.#handle = native.sessionStart(
      server,
      this.#openTree(),
      threads,
      trace,
      exact(initResult),
      "fuzz",
      onEvents,
    );
    for (const [i, { layer }] of input.caches.entries())
      native.sessionAttach(this.#handle, layer, this.#caches[i]!.handle);
  }

  /** The names of what was counted. */
  async run(): Promise<readonly string[]> {
    for (const action of this.#input.actions) await this.#act(action);
    if (this.#input.ending !== "leave") {
      if (this.#input.ending === "land") this.#answerAll();
      else await this.#interruptAll();
      await this.#kernel.settled();
      claim(/waiting requests: 0\n/.test(this.describe()), "nothing waits when everything is answered");
    }
    await this.#kernel.finish();
    this.#kernel.close();
    await this.#ended;
    claim(this.#failure === undefined, String(this.#failure));
    const counters = this.#native.sessionCounters(this.#handle);
    claim(
      counters.every((count) => Number.isSafeInteger(count) && count >= 0),
      "counters are counts",
    );
    // Of no effect any more, and not wrong.
    this.#native.sessionLanded(this.#handle, 0, new Uint8Array(1));
    this.#native.sessionFailed(this.#handle, 0, 5);
    this.#native.sessionAttach(this.#handle, 0, null);
    claim(!this.#native.sessionResend(this.#handle), "nothing can be sent again when the connection is gone");
    for (const { handle, data, map } of this.#caches) {
      this.#native.cacheClose(handle);
      closeSync(data);
      closeSync(map);
    }
    return sessionCounterNames.filter((_, i) => counters[SESSION_OPCODES + i]! > 0);
  }

  describe(): string {
    return this.#native.sessionDescribe(this.#handle);
  }

  #openTree() {
    const s = exactSections(this.#input.tree.sections);
    const { treeOpen } = this.#native;
    return treeOpen(
      s.inodes,
      s.dirents,
      s.names,
      s.extents,
      s.xattrs,
      s.xattrValues,
      s.layers,
      s.spans,
      1_000_000,
    );
  }

  #openCache(cache: CacheInput, name: string): OpenCache {
    const file = (bytes: Buffer, fileName: string) => {
      const fd = openSync(fileName, "w+");
      writeSync(fd, bytes);
      return fd;
    };
    const data = file(cache.data, `${name}.data`);
    const map = file(cache.map, `${name}.map`);
    const handle = this.#native.cacheOpen(data, map, exact(cache.records));
    return { handle, verified: this.#native.cacheVerified(handle), data, map };
  }

  async #act(action: Action): Promise<void> {
    switch (action.does) {
      case "request":
        await this.#kernel.send(action.packet);
        break;
      case "truncate":
        this.#shorten(this.#caches[action.cache]![action.file], action.bytes);
        break;
      case "attach": {
        const cache = action.cache === undefined ? null : this.#caches[action.cache]!.handle;
        this.#native.sessionAttach(this.#handle, action.layer, cache);
        break;
      }
      case "turn":
        await turn();
        break;
      case "describe": {
        claim(this.describe().startsWith("  threads: "), "a session describes itself");
        const known = this.#caches.every(({ verified }) => verified.every((byte) => byte <= 1));
        claim(known, "a span is verified or not");
        break;
      }
      case "collect":
        globalThis.gc?.();
    }
  }

  /** Never longer: zeros under spans that have been verified are damage that nobody promises to notice. */
  #shorten(fd: number, bytes: number): void {
    ftruncateSync(fd, Math.min(bytes, fstatSync(fd).size));
  }

  /** True when the session has ended. */
  #take(events: Uint32Array): boolean {
    claim(!this.#hasEnded, "nothing is told after the end");
    for (let at = 0; at < events.length; at += 2) {
      const value = events[at + 1]!;
      if (events[at] === SessionEvent.spanWanted) this.#bring(value);
      if (events[at] === SessionEvent.ended) this.#hasEnded = true;
    }
    return this.#hasEnded;
  }

  #bring(span: number): void {
    const answer = this.#answersAll ? "land" : this.#input.answers[span % this.#input.answers.length]!;
    claim(span < this.#spanRecords.length / 80, `span ${span} is wanted, which there is not`);
    const length = this.#spanRecords.readUInt32LE(span * 80 + 8);
    const land = (bytes: Uint8Array, isWhole: boolean) => {
      if (!isWhole) this.#unsure.add(span);
      this.#native.sessionLanded(this.#handle, span, bytes);
    };
    const landWhole = () =>
      land(spanContent(span, Math.min(length, contentBytesMax)), length <= contentBytesMax);
    switch (answer) {
      case "land":
        landWhole();
        break;
      case "later":
        setImmediate(landWhole);
        break;
      case "short":
        land(spanContent(span, Math.floor(Math.min(length, contentBytesMax) / 3)), false);
        break;
      case "long":
        land(spanContent(span, Math.min(length, contentBytesMax) + 1000), length <= contentBytesMax);
        break;
      case "fail":
        this.#native.sessionFailed(this.#handle, span, 1 + (span % 4095));
        break;
      case "never":
        this.#never.add(span);
    }
  }

  #answerAll(): void {
    this.#answersAll = true;
    for (const span of this.#never) this.#bring(span);
  }

  async #interruptAll(): Promise<void> {
    // Uniques of interruptions are odd, and those of requests even.
    for (const { unique } of this.#kernel.outstanding)
      await this.#kernel.send(encodeRequest(opcodes.interrupt, unique | 1n, rootNode, interruptBody(unique)));
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(() => resolve()));

/** Descriptors and threads. The directory is read with a descriptor too, each time. */
const ownedByProcess = () => ({
  descriptors: readdirSync("/proc/self/fd").length,
  threads: readdirSync("/proc/self/task").length,
});

/** libuv starts its threads when they are first needed, all at once. */
const startPoolThreads = () => new Promise<void>((resolve) => stat("/", () => resolve()));

async function abandonedSession(native: NativeBinding, corpus: Corpus): Promise<SessionHandle> {
  const { treeOpen } = native;
  const s = exactSections((openedOr(corpus.archives[0]!) as Archive).servedSections());
  const tree = treeOpen(
    s.inodes,
    s.dirents,
    s.names,
    s.extents,
    s.xattrs,
    s.xattrValues,
    s.layers,
    s.spans,
    1,
  );
  const [server, kernel] = native.socketPair(true);
  const session = native.sessionStart(server, tree, 4, false, new Uint8Array(0), "abandoned", () => {});
  writeSync(kernel, encodeRequest(opcodes.init, 2n, rootNode, initBody()));
  for (let unique = 4n; unique < 20n; unique += 2n)
    writeSync(kernel, encodeRequest(opcodes.read, unique, 2n, Buffer.alloc(40, 1)));
  return session;
}
