/** A daemon of its own, in directories of its own, with an image that it has indexed. */
import { spawn } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { UndoStack } from "../../src/base/undo-stack.js";
import { DaemonClient } from "../../src/control/daemon-client.js";
import { run } from "../support/processes.js";
import { layoutOfTar } from "../support/tar-layout.js";
import { emptyFiles, randomFile, writeTar } from "../support/tar-tree.js";

const MiB = 1024 * 1024;
/** Files of each image: what the figures speak of. */
export const imageFiles = 10_000;
/** To be read while the server is away. */
export const bigFileName = "big";
const bigFileBytes = 64 * MiB;
/** From its start until it takes requests. */
const startTimeoutMs = 30_000;

const cli = path.resolve(import.meta.dirname, "../../dist/bin/skim.js");

export class DaemonHost {
  readonly client: DaemonClient;
  /** Of `imageFiles` empty files, and one that is not. */
  readonly archive: string;
  readonly runDir: string;
  readonly #undo: UndoStack;

  private constructor(client: DaemonClient, archive: string, runDir: string, undo: UndoStack) {
    this.client = client;
    this.archive = archive;
    this.runDir = runDir;
    this.#undo = undo;
  }

  static async start(workDir: string, signal: AbortSignal): Promise<DaemonHost> {
    const undo = new UndoStack();
    return await undo.guard(async () => {
      const runDir = path.join(workDir, "run");
      const cacheDir = path.join(workDir, "cache");
      await mkdir(runDir, { mode: 0o700 });
      const layout = path.join(workDir, "image.oci");
      await layoutOfTar(layout, "bench", await writeTar(`${layout}.tar`, members(), signal));
      const archive = path.join(workDir, "image.skim");
      const own = ["--cache-dir", cacheDir, "--run-dir", runDir];
      await run("node", [cli, "index", `oci:${layout}:bench`, "-o", archive, ...own], { signal });
      const daemon = spawn("node", [cli, "daemon", ...own], { stdio: "ignore", detached: true });
      daemon.unref();
      const client = await untilReady(runDir, signal);
      undo.defer(() => run("node", [cli, "daemon", "stop", "--force", ...own]));
      return new DaemonHost(client, archive, runDir, undo);
    });
  }

  async serverPid(): Promise<number> {
    return (await this.client.health()).pid;
  }

  /** Of the server, in MB: what it has for itself. */
  async serverMemory(): Promise<number> {
    const text = await readFile(`/proc/${await this.serverPid()}/smaps_rollup`, "latin1");
    return (Number(/Private_Dirty:\s+(\d+)/.exec(text)?.[1]) * 1024) / 1e6;
  }

  /** Processor time of the server and its holder, in seconds. */
  async processorSeconds(): Promise<number> {
    const ticks = await Promise.all(
      [await this.serverPid(), await holderPid(this.runDir)].map(async (pid) => {
        const text = await readFile(`/proc/${pid}/stat`, "latin1");
        const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
        return Number(fields[11]) + Number(fields[12]);
      }),
    );
    return ticks.reduce((sum, each) => sum + each, 0) / 100;
  }

  close(): Promise<void> {
    return this.#undo.unwind();
  }
}

function* members(): Generator<Buffer> {
  const pieces = [...emptyFiles(imageFiles)];
  yield* pieces.slice(0, -1);
  yield* randomFile(bigFileName, bigFileBytes);
}

async function untilReady(runDir: string, signal: AbortSignal): Promise<DaemonClient> {
  const endsAt = performance.now() + startTimeoutMs;
  for (;;) {
    signal.throwIfAborted();
    const found = await DaemonClient.find(runDir);
    if (found) return found.client;
    if (performance.now() > endsAt) throw new Error(`no daemon answers in ${runDir}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The holder is the only other process that has the run directory on its command line, and not as an option. */
async function holderPid(runDir: string): Promise<number> {
  const { stdout } = await run("pgrep", ["--full", `skim-holder ${runDir}$`]);
  return Number(stdout.trim());
}
