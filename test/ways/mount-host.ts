import { type ChildProcess, spawn } from "node:child_process";
import { realpath } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterAll } from "vitest";
import { resolveSettings } from "../../src/base/settings.js";
import { findMount } from "../../src/fuse/mount-table.js";
import type { EngineName } from "../support/engines.js";
import { run } from "../support/fuse-mount.js";
import { makeTempDir, removeTempDir } from "../support/temp-dir.js";

const dist = process.env.SKIM_TEST_DIST ?? path.resolve(import.meta.dirname, "../../dist");
const script = path.resolve(import.meta.dirname, "mount-host.mjs");

/** One process a test file, started with the first mount. */
let child: ChildProcess | undefined;
let requests = 0;
let stderr = "";
const waiting = new Map<number, (answer: { error?: { code: string; message: string } }) => void>();
const mounted = new Set<string>();

export interface HostedMount {
  /** File of the archive. */
  readonly archive: string;
  readonly engine: EngineName;
  readonly cacheDir: string;
}

/** What `use` gives, called while the archive is mounted. Nobody may be in the mount when it is done. */
export async function whileMounted<Result>(
  { archive, engine, cacheDir }: HostedMount,
  use: (mountpoint: string) => Promise<Result>,
): Promise<Result> {
  const settings = resolveSettings({ cacheDir });
  const mountpoint = await realpath(await makeTempDir("mount"));
  mounted.add(mountpoint);
  await ask("mount", { options: { id: "four-ways", archive, engine, mountpoint, settings } });
  const result = await use(mountpoint).finally(() => ask("unmount", { mountpoint }));
  if (findMount(mountpoint)) throw new Error(`${mountpoint} is still mounted`);
  mounted.delete(mountpoint);
  await removeTempDir(mountpoint);
  return result;
}

async function ask(command: string, request: object): Promise<void> {
  child ??= startChild();
  const id = ++requests;
  const { error } = await new Promise<{ error?: { code: string; message: string } }>((resolve) => {
    waiting.set(id, resolve);
    child!.stdin!.write(`${JSON.stringify({ id, command, ...request })}\n`);
  });
  if (error) throw new Error(`${command}: ${error.code}: ${error.message}`);
}

function startChild(): ChildProcess {
  const started = spawn(process.execPath, [script, dist], { stdio: ["pipe", "pipe", "pipe"] });
  started.stderr.on("data", (bytes) => {
    stderr += bytes;
  });
  started.stdin.on("error", () => {});
  createInterface({ input: started.stdout }).on("line", (line) => {
    const { id, ...answer } = JSON.parse(line);
    waiting.get(id)?.(answer);
    waiting.delete(id);
  });
  started.once("close", (code, signal) => {
    const error = {
      code: "EXITED",
      message: `the process that mounts has ended with ${signal ?? code}: ${stderr}`,
    };
    for (const resolve of waiting.values()) resolve({ error });
    waiting.clear();
    child = undefined;
  });
  return started;
}

afterAll(async () => {
  if (child) {
    const ended = new Promise((resolve) => child!.once("close", resolve));
    // The end of its input is the end of its loop, unless a test has failed and left it a mount.
    if (mounted.size === 0) child.stdin!.end();
    else child.kill("SIGKILL");
    await ended;
  }
  for (const mountpoint of mounted) while (findMount(mountpoint)) await run("umount", ["-l", mountpoint]);
  // Neither libfuse nor node has anything to complain about.
  if (stderr) throw new Error(`the process that mounts wrote: ${stderr}`);
});
