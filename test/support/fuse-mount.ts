import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { encodeArchive, writeArchive } from "../../src/archive/archive-writer.js";
import type { ErrorCode } from "../../src/base/errors.js";
import { findMount } from "../../src/fuse/mount-table.js";
import type { LayerIndex } from "../../src/layer/layer-index.js";
import { SPAN_RECORD_BYTES } from "../../src/native/binding.js";
import type { TreeNode } from "../../src/tree/image-tree.js";
import { contentsOf, layerIndex } from "../archive/sample-archive.js";

const dist = process.env.SKIM_TEST_DIST ?? path.resolve(import.meta.dirname, "../../dist");
const script = path.resolve(import.meta.dirname, "fuse-server.mjs");
/** Spans of an archive have at most 64 MiB. */
const spanBytes = 1024 * 1024;

export interface ServerOptions {
  readonly archive: string;
  /** Files with the uncompressed bytes of each layer. */
  readonly layers: readonly string[];
  readonly mountpoint: string;
  readonly engine?: string;
  readonly allowOther?: boolean;
  readonly fsName?: string;
  /** Waits for commands and does not mount. */
  readonly idle?: boolean;
  readonly abortAtOnce?: boolean;
  readonly abortSoon?: boolean;
  /** Before a span is brought, or a file read. */
  readonly delayMs?: number;
  /** With it the server has skim's own content and disk cache; without, it reads the layer files each time. */
  readonly cacheDir?: string;
  /** How often the disk cache looks whether it must go on to other files; default: every 5 seconds. */
  readonly releaseStaleEveryMs?: number;
  readonly traceOperations?: boolean;
}

export interface ServerLog {
  readonly level: string;
  readonly message: string;
  readonly details: Record<string, unknown>;
}

/** What a command of the server answers; `error` where it threw. */
// biome-ignore lint/suspicious/noExplicitAny: JSON of many shapes, looked at by assertions only
export type Answer = Record<string, any>;

/** A process that serves one mount; see fuse-server.mjs. */
export class FuseServer {
  readonly mountpoint: string;
  readonly logs: ServerLog[] = [];
  /** Resolves to the exit code, or the name of the signal. */
  readonly exited: Promise<number | string | null>;
  /** Resolves when the server says that its session has ended. */
  readonly ended: Promise<void>;
  /** What libfuse and node wrote to standard error. */
  stderr = "";
  readonly #child: ChildProcess;
  readonly #answers = new Map<number, (answer: Answer) => void>();
  readonly #started: Promise<Answer>;
  #commands = 0;

  constructor(options: ServerOptions, command: readonly string[] = []) {
    this.mountpoint = options.mountpoint;
    const request = { dist, engine: "native", allowOther: true, ...options };
    const [program, ...args] = [...command, process.execPath, script, JSON.stringify(request)];
    this.#child = spawn(program!, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.exited = new Promise((resolve) =>
      this.#child.once("close", (code, signal) => resolve(signal ?? code)),
    );
    this.#child.stderr!.on("data", (bytes) => {
      this.stderr += bytes;
    });
    let onStarted: (answer: Answer) => void = () => {};
    let onEnded = () => {};
    this.#started = new Promise((resolve) => {
      onStarted = resolve;
    });
    this.ended = new Promise((resolve) => {
      onEnded = resolve;
    });
    createInterface({ input: this.#child.stdout! }).on("line", (line) => {
      const event = JSON.parse(line) as Answer;
      if (event.event === "log") this.logs.push(event as unknown as ServerLog);
      else if (event.event === "answer") this.#answers.get(event.id)?.(event);
      else if (event.event === "ended") onEnded();
      else onStarted(event);
    });
    // A server that dies answers nothing any more: those who wait must not wait for ever.
    void this.exited.then((how) => {
      const error = { code: "EXITED", message: `the server has ended with ${how}: ${this.stderr}` };
      onStarted({ event: "failed", ...error });
      for (const answer of this.#answers.values()) answer({ error });
    });
    running.add(this);
    void this.exited.then(() => running.delete(this));
  }

  /** Starts a server and waits until the mount is ready; throws what it failed with. */
  static async mount(options: ServerOptions): Promise<FuseServer> {
    const server = new FuseServer(options);
    const failure = await server.failure();
    if (failure) throw new Error(`${failure.code}: ${failure.message}\n${server.stderr}`);
    return server;
  }

  /** What mounting failed with; undefined where it did not. */
  async failure(): Promise<{ code: ErrorCode; message: string } | undefined> {
    const started = await this.#started;
    return started.event === "ready" ? undefined : { code: started.code, message: started.message };
  }

  send(command: string, request: Record<string, unknown> = {}): Promise<Answer> {
    const id = ++this.#commands;
    return new Promise((resolve) => {
      this.#answers.set(id, resolve);
      this.#child.stdin!.write(`${JSON.stringify({ id, command, ...request })}\n`);
    });
  }

  /** Unmounts and waits for the process to end by itself; throws where either fails. */
  async close(): Promise<void> {
    const { error } = await this.send("unmount");
    if (error) throw new Error(`${error.code}: ${error.message}`);
    const how = await this.exited;
    // Neither libfuse nor node has anything to complain about.
    if (how !== 0 || this.stderr) throw new Error(`the server ended with ${how}: ${this.stderr}`);
  }

  /** Ends the process without any cleaning up: its mount stays, dead. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.exited;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** What a test that failed may have left behind. */
  async destroy(): Promise<void> {
    await this.kill();
    while (findMount(this.mountpoint)) await run("umount", ["-l", this.mountpoint]);
  }
}

const running = new Set<FuseServer>();

/** Ends servers that tests have left running, and removes their mounts. For afterEach or afterAll. */
export async function endServers(): Promise<void> {
  for (const server of [...running]) await server.destroy();
}

export interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program in another process: the only way a test looks at a mount. Text is one character a byte. */
export function run(
  program: string,
  args: readonly string[],
  options: { input?: string } = {},
): Promise<Run> {
  return new Promise((resolve) => {
    const child = execFile(
      program,
      args as string[],
      {
        encoding: "latin1",
        maxBuffer: 64 * 1024 * 1024,
        timeout: 60_000,
        env: { ...process.env, LC_ALL: "C" },
      },
      (error, stdout, stderr) =>
        resolve({ code: error ? (typeof error.code === "number" ? error.code : -1) : 0, stdout, stderr }),
    );
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.input ?? "");
  });
}

/** What a Python program prints as JSON; throws its error. Arguments are in sys.argv[1:]. */
export async function python<Result>(source: string, ...args: readonly string[]): Promise<Result> {
  const { code, stdout, stderr } = await run("python3", ["-c", source, ...args]);
  if (code !== 0) throw new Error(`python3 ended with ${code}: ${stderr}`);
  return JSON.parse(stdout) as Result;
}

/** An archive of `root` whose only layer has these (uncompressed) bytes, a file with them, and an empty directory to mount on. */
export async function makeImage(
  dir: string,
  root: TreeNode,
  layer: Uint8Array,
  name = "image",
): Promise<{ archive: string; layers: string[]; mountpoint: string }> {
  const archive = path.join(dir, `${name}.skim`);
  const layerFile = path.join(dir, `${name}.layer`);
  const mountpoint = path.join(dir, `${name} mount`);
  await writeFile(layerFile, layer);
  await writeArchive(archive, encodeArchive(contentsOf(root, [plainIndex(name, layer)])));
  if (!existsSync(mountpoint)) await mkdir(mountpoint);
  return { archive, layers: [layerFile], mountpoint };
}

function plainIndex(name: string, layer: Uint8Array): LayerIndex {
  const spans = [];
  for (let at = 0; at < layer.length; at += spanBytes) {
    const end = Math.min(at + spanBytes, layer.length);
    spans.push({ length: end - at, compressedStart: at, compressedEnd: end });
  }
  const layout = layerIndex(name, "none", layer.length, spans);
  // Real digests, for servers that verify what they read.
  for (const [i, { compressedStart, compressedEnd }] of spans.entries())
    layout.spanRecords.set(
      createHash("sha256").update(layer.subarray(compressedStart, compressedEnd)).digest(),
      i * SPAN_RECORD_BYTES + 48,
    );
  return layout;
}
