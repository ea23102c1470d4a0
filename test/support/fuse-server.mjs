// Serves a mount for the tests of test/fuse: a test must read a mount from other processes than the one that serves it.
//
// Usage: node fuse-server.mjs JSON, with {dist, archive, layers, mountpoint, engine, allowOther, mounts}. `layers` are files with the
// uncompressed bytes of each layer. Speaks lines of JSON: events on standard output, commands on standard input. The content can be told to
// fail, or to hold reads of files of at least `bytes` bytes, which is how a registry looks that is gone or slow.
import { readdirSync } from "node:fs";
import { open } from "node:fs/promises";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const options = JSON.parse(process.argv[2]);
const load = (name) => import(pathToFileURL(`${options.dist}/${name}.js`).href);
const { openArchive } = await load("archive/archive-reader");
const { SkimError } = await load("base/errors");
const { ImageFilesystem } = await load("filesystem/image-filesystem");
const { openEngine } = await load("fuse/engine");

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

const layers = await Promise.all(options.layers.map((file) => open(file)));
let mode = { kind: "serve" };
let release = () => {};
let released = Promise.resolve();
let held = 0;

const content = {
  async read({ extents, fileBytes, offset, into, signal }) {
    if (mode.kind === "fail") throw new SkimError(mode.code, "the registry is gone");
    if (mode.kind === "hold" && fileBytes >= mode.bytes) {
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
    const length = Math.min(into.length, fileBytes - offset);
    into.fill(0, 0, length);
    for (const extent of extents) {
      const from = Math.max(extent.fileOffset, offset);
      const end = Math.min(extent.fileOffset + extent.length, offset + length);
      for (let at = from; at < end; ) {
        const position = extent.layerOffset + at - extent.fileOffset;
        const { bytesRead } = await layers[extent.layer].read(into, at - offset, end - at, position);
        if (bytesRead === 0) throw new SkimError("LOCAL_IO", "a layer file is too short");
        at += bytesRead;
      }
    }
    return length;
  },
};

let sessions = [];
const archive = await openArchive(options.archive);
const commands = {
  async stats() {
    return { operations: sessions.at(-1).operations.snapshot(), held };
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
  const session = await openEngine(options.engine).mount(new ImageFilesystem({ archive, content }), {
    mountpoint,
    allowOther: options.allowOther,
    fsName: options.fsName ?? "test image",
    logger,
    ...(signal ? { signal } : {}),
  });
  sessions.push(session);
  void session.ended.then(() => tell({ event: "ended", mountpoint }));
  return session;
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
  if (!options.idle) await mount(options.mountpoint, signal);
  tell({ event: "ready" });
  // Nothing else may keep the process: when its mounts have ended and nobody will send commands, it must end by itself.
  if (!options.idle) void Promise.all(sessions.map((session) => session.ended)).then(closeInput);
} catch (error) {
  tell({ event: "failed", code: error.code, message: error.message });
  closeInput();
}
