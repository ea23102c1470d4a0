/** A daemon of its own, in directories of its own, with an image that it has indexed. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { DaemonClient } from "../../src/control/daemon-client.js";
import { DaemonProcess } from "../support/daemon-process.js";
import { run } from "../support/processes.js";
import { cliFile } from "../support/registry-process.js";
import { layoutOfTar } from "../support/tar-layout.js";
import { emptyFiles, randomFile, writeTar } from "../support/tar-tree.js";

const MiB = 1024 * 1024;
/** Files of each image: what the figures speak of. */
export const imageFiles = 10_000;
/** To be read while the server is away. */
export const bigFileName = "big";
const bigFileBytes = 64 * MiB;
export class DaemonHost {
  readonly daemon: DaemonProcess;
  /** Of `imageFiles` empty files, and one that is not. */
  readonly archive: string;

  private constructor(daemon: DaemonProcess, archive: string) {
    this.daemon = daemon;
    this.archive = archive;
  }

  get client(): DaemonClient {
    return this.daemon.client;
  }

  static async start(workDir: string, signal: AbortSignal): Promise<DaemonHost> {
    const cacheDir = path.join(workDir, "cache");
    const layout = path.join(workDir, "image.oci");
    await layoutOfTar(layout, "bench", await writeTar(`${layout}.tar`, members(), signal));
    const archive = path.join(workDir, "image.skim");
    const index = ["index", `oci:${layout}:bench`, "-o", archive, "--cache-dir", cacheDir];
    await run(process.execPath, [cliFile, ...index], { signal });
    return new DaemonHost(await DaemonProcess.start(cacheDir, signal), archive);
  }

  /** Of the server, in MB: what it has for itself. */
  async serverMemory(): Promise<number> {
    const text = await readFile(`/proc/${await this.daemon.serverPid()}/smaps_rollup`, "latin1");
    return (Number(/Private_Dirty:\s+(\d+)/.exec(text)?.[1]) * 1024) / 1e6;
  }

  /** Processor time of the server and its holder, in seconds. */
  async processorSeconds(): Promise<number> {
    const ticks = await Promise.all(
      [await this.daemon.serverPid(), await this.daemon.holderPid()].map(async (pid) => {
        const text = await readFile(`/proc/${pid}/stat`, "latin1");
        const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
        return Number(fields[11]) + Number(fields[12]);
      }),
    );
    return ticks.reduce((sum, each) => sum + each, 0) / 100;
  }

  close(): Promise<void> {
    return this.daemon.close();
  }
}

function* members(): Generator<Buffer> {
  const pieces = [...emptyFiles(imageFiles)];
  yield* pieces.slice(0, -1);
  yield* randomFile(bigFileName, bigFileBytes);
}
