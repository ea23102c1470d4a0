// Serves a mount for the tests of test/fuse: a test must read a mount from other processes than the one that serves it.
//
// Usage: node fuse-server.mjs JSON, with {dist, archive, layers, mountpoint, engine, allowOther, keeper}. With `keeper` it has its
// connections kept (src/holder; see kept-mounts.mjs), and serves those that are kept already. `layers` are files with the
// uncompressed bytes of each layer. Speaks lines of JSON: events on standard output, commands on standard input. The content can be told to
// fail, or to hold reads of what lies in a layer from `layerOffset` on, which is how a registry looks that is gone or slow.
import { constants, readdirSync } from "node:fs";
import { open } from "node:fs/promises";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const options = JSON.parse(process.argv[2]);
const load = (name) => import(pathToFileURL(`${options.dist}/${name}.js`).href);
const { openArchive } = await load("archive/archive-reader");
const { SkimError } = await load("base/errors");
const { ImageFilesystem } = await load("filesystem/image-filesystem");
const { openEngine } = await load("fuse/engine");
const { loadNative } = await load("native/load");
loadNative().printSessionsOn(12);

const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const log = (level) => (details, message) => tell({ event: "log", level, message, details });
const logger = {
  level: "info",
  trace() {},
  debug() {},
  info: log("info"),
  warn: log("warn"),
  error: log("error"),
};

const archive = await openArchive(options.archive);
const layers = await Promise.all(options.layers.map((file) => open(file)));
let mode = { kind: "serve" };
let release = () => {};
let released = Promise.resolve();
let held = 0;
let brought = 0;

/** Waits as long as reads of these bytes are held; `signal` ends the wait. Fails where the registry is gone. */
async function admit(layerOffset, signal) {
  brought++;
  if (options.delayMs) await new Promise((resolve) => setTimeout(resolve, options.delayMs));
  if (mode.kind === "fail") throw new SkimError(mode.code, "the registry is gone");
  if (mode.kind !== "hold" || layerOffset < mode.layerOffset) return;
  held++;
  let onAbort;
  await Promise.race([
    released,
    new Promise((_, reject) => {
      onAbort = () => reject(new SkimError("CANCELLED", "nobody waits"));
      signal?.addEventListener("abort", onAbort, { once: true });
    }),
  ]).finally(() => held--);
  signal?.removeEventListener("abort", onAbort);
}

async function readLayer(layer, position, into) {
  for (let at = 0; at < into.length; ) {
    const { bytesRead } = await layers[layer].read(into, at, into.length - at, position + at);
    if (bytesRead === 0) throw new SkimError("LOCAL_IO", "a layer file is too short");
    at += bytesRead;
  }
}

/** The layers as a registry would have them. */
const source = {
  async *readBlob({ digest }, { range, signal }) {
    const layer = archive.layers.findIndex((one) => one.digest === digest);
    await admit(range.start, signal);
    const bytes = new Uint8Array(range.end - range.start);
    await readLayer(layer, range.start, bytes);
    yield bytes;
  },
};

/** The real content, over a disk cache. */
async function cachingContent() {
  const { openContent } = await load("content/content");
  const { SpanCache } = await load("cache/span-cache");
  const cache = SpanCache.open(options.cacheDir, { logger });
  if (options.releaseStaleEveryMs)
    setInterval(() => cache.releaseStale(), options.releaseStaleEveryMs).unref();
  return openContent({
    archive,
    source,
    cache,
    native: loadNative(),
    settings: { readDeadlineMs: 60_000, memoryCacheBytes: 0 },
    logger,
    // Tests count what is fetched.
    readAhead: false,
  });
}

/** What content is to an engine that reads files through it, and to one that wants spans. There is no disk cache. */
const plainContent = {
  async read({ extents, fileBytes, offset, into, signal }) {
    for (const extent of extents) await admit(extent.layerOffset, signal);
    const length = Math.min(into.length, fileBytes - offset);
    into.fill(0, 0, length);
    for (const extent of extents) {
      const from = Math.max(extent.fileOffset, offset);
      const end = Math.min(extent.fileOffset + extent.length, offset + length);
      if (from >= end) continue;
      const position = extent.layerOffset + from - extent.fileOffset;
      await readLayer(extent.layer, position, into.subarray(from - offset, end - offset));
    }
    return length;
  },
  deliverTo(sink) {
    const wanted = new Map();
    const bring = async (span) => {
      const abort = new AbortController();
      wanted.set(span, abort);
      const isOver = () => wanted.get(span) !== abort;
      try {
        const layer = archive.layers.findIndex((one) => span < one.spanFirst + one.spanCount);
        const { uncompressedOffset, uncompressedLength } = archive.span(span);
        await admit(uncompressedOffset, abort.signal);
        const bytes = new Uint8Array(uncompressedLength);
        await readLayer(layer, uncompressedOffset, bytes);
        if (isOver()) return;
        wanted.delete(span);
        sink.landed(span, bytes);
      } catch (error) {
        if (isOver()) return;
        wanted.delete(span);
        sink.failed(span, error);
      }
    };
    const unwant = (span) => {
      const abort = wanted.get(span);
      wanted.delete(span);
      abort?.abort();
    };
    return {
      want: (spans) => spans.filter((span) => !wanted.has(span)).forEach((span) => void bring(span)),
      unwant,
      close: () => [...wanted.keys()].forEach(unwant),
    };
  },
  watchFiles: () => () => {},
  touched: () => {},
};

const content = options.cacheDir ? await cachingContent() : plainContent;

let sessions = [];
let kept;
const commands = {
  async stats() {
    // The native engine keeps the list of who waits itself; fuse-native's readers all wait in the content.
    const state = sessions.at(-1).describe?.();
    const waiting = state === undefined ? held : Number(/waiting requests: (\d+)/.exec(state)[1]);
    return {
      operations: sessions.at(-1).operations.snapshot(),
      waiting,
      brought,
      content: content.counters?.snapshot(),
      served: sessions.at(-1).served(),
    };
  },
  async unmount({ force }) {
    for (const session of sessions) await session.unmount(force === undefined ? undefined : { force });
    return {};
  },
  async content(next) {
    release();
    mode = next;
    if (next.kind === "hold")
      released = new Promise((resolve) => {
        release = resolve;
      });
    return {};
  },
  async mount() {
    await mount(options.mountpoint);
    return {};
  },
  async footprint() {
    return {
      descriptors: readdirSync("/proc/self/fd").length,
      threads: readdirSync("/proc/self/task").length,
    };
  },
  /** Keeps the event loop from doing anything. */
  async stall({ ms }) {
    tell({ event: "log", level: "info", message: "stalling", details: {} });
    const end = Date.now() + ms;
    while (Date.now() < end);
    return {};
  },
  async keep({ id, mountpoint }) {
    await kept.mount(id, mountpoint);
    return {};
  },
  /** What no server should do: waits for itself, in a system call that SIGKILL does not end. */
  async readOwn({ name }) {
    const file = await open(`${options.mountpoint}/${name}`, constants.O_RDONLY | constants.O_DIRECT);
    void file.read(Buffer.alloc(4096), 0, 4096, 0);
    return {};
  },
  async letGo({ limitMs }) {
    await kept.letGo(limitMs);
    return {};
  },
  async end() {
    closeInput();
    return {};
  },
  /** Mounts and unmounts again and again, with another process looking at it in between. */
  async loop({ rounds }) {
    const { execFile } = await import("node:child_process");
    for (let round = 0; round < rounds; round++) {
      const session = await mount(options.mountpoint);
      await new Promise((resolve, reject) =>
        execFile("stat", ["-c", "%i", options.mountpoint], (error, out) =>
          error || out !== "1\n" ? reject(error ?? new Error(`the root is inode ${out}`)) : resolve(),
        ),
      );
      await session.unmount();
      sessions = [];
    }
    return {};
  },
};

async function mount(mountpoint, signal) {
  const filesystem = new ImageFilesystem({ archive, content });
  const session = await openEngine(options.engine).mount(
    { archive, content, filesystem },
    {
      mountpoint,
      allowOther: options.allowOther,
      fsName: options.fsName ?? "test image",
      logger,
      traceOperations: options.traceOperations ?? false,
      ...(signal ? { signal } : {}),
    },
  );
  sessions.push(session);
  void session.ended.then(() => tell({ event: "ended", mountpoint }));
  return session;
}

/** Serves what is kept, and what is to be. */
async function serveKept() {
  const filesystem = new ImageFilesystem({ archive, content });
  const { KeptMounts } = await import("./kept-mounts.mjs");
  kept = await KeptMounts.open(options, load, logger, async (connection) => {
    const session = await openEngine("native").serve({ archive, content, filesystem }, connection, {
      logger,
    });
    sessions.push(session);
    return session;
  });
}

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const { id, command, ...request } = JSON.parse(line);
  try {
    tell({ event: "answer", id, ...(await commands[command](request)) });
  } catch (error) {
    tell({ event: "answer", id, error: { code: error.code, message: error.message } });
  }
});
const closeInput = () => {
  lines.close();
  process.stdin.destroy();
};

try {
  const signal = options.abortAtOnce
    ? AbortSignal.abort()
    : options.abortSoon
      ? AbortSignal.timeout(1)
      : undefined;
  if (options.keeper) await serveKept();
  else if (!options.idle) await mount(options.mountpoint, signal);
  tell({ event: "ready", pid: process.pid, ...kept?.facts() });
  // Nothing else may keep the process: when its mounts have ended and nobody will send commands, it must end by itself.
  if (!options.idle)
    void Promise.all(sessions.map((session) => session.ended))
      .then(() => kept?.leave())
      .then(() => content.close?.())
      .then(closeInput);
} catch (error) {
  tell({ event: "failed", code: error.code, message: error.message });
  closeInput();
}
