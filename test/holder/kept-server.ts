/** Servers whose connections are kept (test/support/kept-mounts.mjs), the holder behind them, and a reader that misses nothing. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { vi } from "vitest";
import { findMount, readMountTable } from "../../src/fuse/mount-table.js";
import { directory, file } from "../archive/sample-archive.js";
import { FuseServer, makeImage, run, type ServerOptions } from "../support/fuse-mount.js";
import { makeTempDir } from "../support/temp-dir.js";

/** A test starts up to twenty servers one after the other, each of which takes a second where the machine has other things to do. */
vi.setConfig({ testTimeout: 120_000 });

const MiB = 1024 * 1024;
const fileBytes = 3 * MiB + 12_345;

export interface KeeperSettings {
  readonly mounts?: Readonly<Record<string, string>>;
  readonly restarts?: boolean;
  readonly watchdogMs?: number;
  readonly abortAfterRestarts?: number;
  readonly dieFile?: string;
  readonly all?: boolean;
}

export interface LogLine {
  readonly msg: string;
  readonly pid: number;
  readonly server?: number;
  readonly restarts?: number;
  readonly process?: string;
  readonly [name: string]: unknown;
}

/** A run directory with an image, and everything that is started in it. */
export class KeptPlace {
  readonly runDir: string;
  readonly logFile: string;
  readonly mountpoint: string;
  /** By name of the file. */
  readonly digests: Readonly<Record<string, string>>;
  readonly #image: ServerOptions;
  readonly #readers: Reader[] = [];
  readonly #pids = new Set<number>();

  private constructor(runDir: string, image: ServerOptions, digests: Readonly<Record<string, string>>) {
    this.runDir = runDir;
    this.logFile = path.join(runDir, "log");
    this.mountpoint = image.mountpoint;
    this.#image = image;
    this.digests = digests;
  }

  static async make(label: string, files = 8): Promise<KeptPlace> {
    const dir = await makeTempDir(label);
    const layer = randomBytes(files * fileBytes);
    const names = Array.from({ length: files }, (_, i) => `file${i}`);
    const tree = directory(
      Object.fromEntries(names.map((name, i) => [name, file(i * fileBytes, fileBytes)])),
    );
    const image = await makeImage(dir, tree, layer);
    const digestOf = (i: number) =>
      createHash("sha256")
        .update(layer.subarray(i * fileBytes, (i + 1) * fileBytes))
        .digest("hex");
    const place = new KeptPlace(dir, image, Object.fromEntries(names.map((name, i) => [name, digestOf(i)])));
    places.add(place);
    return place;
  }

  /** A second mount point. */
  async addMountpoint(name: string): Promise<string> {
    const mountpoint = path.join(this.runDir, name);
    await mkdir(mountpoint);
    return mountpoint;
  }

  /** A server that mounts at `mountpoint` as "one", or takes over what is held. Resolves when it serves. */
  async serve(settings: KeeperSettings = {}, options: Partial<ServerOptions> = {}): Promise<FuseServer> {
    const { runDir, logFile } = this;
    const keeper = { runDir, logFile, mounts: { one: this.mountpoint }, ...settings };
    // The delay makes sure that there are reads under way whenever a server dies.
    const server = new FuseServer({ delayMs: 5, ...this.#image, ...options, keeper } as ServerOptions);
    this.#pids.add(server.pid);
    const failure = await server.failure();
    if (failure) throw new Error(`${failure.code}: ${failure.message}\n${server.stderr}\n${this.log()}`);
    return server;
  }

  /** For a server that somebody else starts. */
  serverOptions(): Record<string, unknown> {
    const dist = process.env.SKIM_TEST_DIST ?? path.resolve(import.meta.dirname, "../../dist");
    return { dist, engine: "native", allowOther: true, delayMs: 5, ...this.#image };
  }

  async read(): Promise<Reader> {
    const reader = await Reader.start(this.mountpoint, this.digests);
    this.#readers.push(reader);
    return reader;
  }

  log(): string {
    return existsSync(this.logFile) ? readFileSync(this.logFile, "utf8") : "";
  }

  /** Lines of the holder. */
  logLines(): LogLine[] {
    const lines = this.log()
      .split("\n")
      .filter((line) => line.startsWith('{"level"'))
      .map((line) => JSON.parse(line) as LogLine)
      .filter((line) => line.process === "holder");
    for (const { pid, server } of lines) for (const one of [pid, server]) if (one) this.#pids.add(one);
    return lines;
  }

  /** Pids of the servers that became ready, in their order. */
  readyServers(): number[] {
    return this.logLines()
      .filter((line) => line.msg === "the server is ready")
      .map((line) => line.server!);
  }

  /** Of the holder that has begun last. */
  holderPid(): number {
    return this.logLines().findLast((line) => line.msg === "the holder has begun")!.pid;
  }

  /** Processes that were seen here and live, holders and servers. */
  living(): number[] {
    this.logLines();
    return [...this.#pids].filter(isAlive);
  }

  /** Ends everything. What is still mounted dies with it and is removed. */
  async destroy(): Promise<void> {
    places.delete(this);
    for (const reader of this.#readers) reader.kill();
    // A holder that is killed starts nobody any more; a server that lives starts another holder, which may not have written a line yet.
    const left = () => [...new Set([...this.living(), ...processesNaming(this.runDir)])];
    for (let living = left(); living.length > 0; living = left()) {
      for (const pid of living) kill(pid, "SIGKILL");
      for (const { mountpoint } of readMountTable().filter((entry) =>
        entry.mountpoint.startsWith(this.runDir),
      ))
        await run("umount", ["-f", "-l", mountpoint]);
      await sleep(5);
    }
    for (const { mountpoint } of readMountTable().filter((entry) => entry.mountpoint.startsWith(this.runDir)))
      await run("umount", ["-l", mountpoint]);
  }
}

/** Those that have it in their arguments. */
function processesNaming(directory: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => {
      try {
        return isAlive(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(directory);
      } catch {
        return false;
      }
    });
}

const places = new Set<KeptPlace>();

/** For afterEach. */
export async function destroyPlaces(): Promise<void> {
  for (const place of [...places]) await place.destroy();
}

/** Reads all files again and again with several threads, each time dropping what the kernel keeps of them, and looks at attributes and names in between. */
const readerSource = `
import hashlib, json, os, sys, threading, time
mount, wanted = sys.argv[1], json.loads(sys.argv[2])
stop = threading.Event()
result = {"rounds": 0, "failures": []}
def read(names):
    while not stop.is_set():
        for name in names:
            try:
                fd = os.open(os.path.join(mount, name), os.O_RDONLY)
                try:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    digest = hashlib.sha256()
                    while piece := os.read(fd, 300_001): digest.update(piece)
                finally: os.close(fd)
                if digest.hexdigest() != wanted[name]: result["failures"].append(name + ": other bytes")
                os.stat(os.path.join(mount, name))
                try: os.stat(os.path.join(mount, "none" + str(result["rounds"])))
                except FileNotFoundError: pass
            except OSError as error:
                result["failures"].append(repr(error))
                time.sleep(0.01)
            result["rounds"] += 1
names = list(wanted)
threads = [threading.Thread(target=read, args=(names[i::4],)) for i in range(4)]
for thread in threads: thread.start()
print("reading", flush=True)
for line in sys.stdin:
    if line == "stop\\n": break
    seen = result["rounds"]
    while result["rounds"] < seen + 3: time.sleep(0.001)
    print("read", flush=True)
stop.set()
for thread in threads: thread.join()
print(json.dumps(result), flush=True)`;

export class Reader {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  static async start(mountpoint: string, digests: Readonly<Record<string, string>>): Promise<Reader> {
    const reader = new Reader(
      spawn("python3", ["-c", readerSource, mountpoint, JSON.stringify(digests)], {
        stdio: ["pipe", "pipe", "inherit"],
      }),
    );
    await reader.#lines.next();
    return reader;
  }

  /** Resolves when some more files have been read whole. */
  async more(): Promise<void> {
    this.#child.stdin!.write("more\n");
    await this.#lines.next();
  }

  async stop(): Promise<{ rounds: number; failures: string[] }> {
    this.#child.stdin!.write("stop\n");
    return JSON.parse(String((await this.#lines.next()).value));
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

/** Waits for what another process does and tells nobody. Throws, with what `describe` says, when it has not come for long. */
export async function until(holds: () => boolean, describe: () => string = () => ""): Promise<void> {
  const end = performance.now() + 90_000;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`it does not come to pass: ${holds}\n${describe()}`);
    await sleep(5);
  }
}

export function isAlive(pid: number): boolean {
  try {
    // A zombie has ended; its parent may be nobody who cares.
    return !/^\d+ \(.*\) [ZX] /s.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

export function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended by itself.
  }
}

/** What the descriptors of a process lead to. */
export function openFiles(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return "";
    }
  });
}

export { findMount, run };
