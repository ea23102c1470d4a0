/** A `skim daemon` with directories of its own. */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { DaemonClient } from "../../src/control/daemon-client.js";
import { run } from "./processes.js";
import { cliFile } from "./registry-process.js";

/** From its start until it takes requests. */
const startTimeoutMs = 30_000;
/** How often it is looked for meanwhile. */
const lookAgainMs = 20;

export class DaemonProcess {
  readonly client: DaemonClient;
  readonly runDir: string;
  /** Options with which a skim uses it. */
  readonly options: readonly string[];

  private constructor(client: DaemonClient, runDir: string, options: readonly string[]) {
    this.client = client;
    this.runDir = runDir;
    this.options = options;
  }

  /** Resolves when it takes requests. Its run directory is a short path: a Unix socket's may have 107 characters. */
  static async start(cacheDir: string, signal: AbortSignal): Promise<DaemonProcess> {
    const runDir = await mkdtemp("/run/skim-bench-");
    const options = ["--cache-dir", cacheDir, "--run-dir", runDir];
    const daemon = spawn(process.execPath, [cliFile, "daemon", ...options], {
      stdio: "ignore",
      detached: true,
      cwd: "/",
      env: { ...process.env, ...(await unitEnvironment()) },
    });
    daemon.unref();
    const endsAt = performance.now() + startTimeoutMs;
    for (;;) {
      signal.throwIfAborted();
      const found = await DaemonClient.find(runDir);
      if (found) return new DaemonProcess(found.client, runDir, options);
      if (performance.now() > endsAt) throw new Error(`no daemon answers in ${runDir}`);
      await new Promise((resolve) => setTimeout(resolve, lookAgainMs));
    }
  }

  /** Of the server that answers, which may be about to follow one that was killed. */
  async serverPid(): Promise<number> {
    const found = await DaemonClient.find(this.runDir);
    if (!found) throw new Error(`no daemon answers in ${this.runDir}`);
    return found.health.pid;
  }

  /** The holder is the only other process that has the run directory on its command line, and not as an option. */
  async holderPid(): Promise<number> {
    const { stdout } = await run("pgrep", ["--full", `skim-holder ${path.resolve(this.runDir)}$`]);
    return Number(stdout.trim());
  }

  async close(): Promise<void> {
    const pid = await this.serverPid();
    await run(process.execPath, [cliFile, "daemon", "stop", "--force", ...this.options]);
    await ended(pid);
    await rm(this.runDir, { recursive: true, force: true });
  }
}

async function ended(pid: number): Promise<void> {
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, lookAgainMs));
  }
}

/** What systemd's unit of the daemon sets. */
async function unitEnvironment(): Promise<Record<string, string>> {
  const unit = await readFile(path.resolve(import.meta.dirname, "../../scripts/host/skim.service"), "utf8");
  const settings = unit.matchAll(/^Environment=([^=]+)=(.*)$/gm);
  return Object.fromEntries([...settings].map(([, name, value]) => [name!, value!]));
}
