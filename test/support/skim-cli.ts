import { type ChildProcess, spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { afterAll } from "vitest";
import { makeTempDir } from "./temp-dir.js";

export const cliFile = path.resolve(import.meta.dirname, "../../dist/bin/skim.js");

export interface CliResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command line in a process of its own, with directories of its own. */
export interface SkimHost {
  readonly cacheDir: string;
  readonly runDir: string;
  readonly env: NodeJS.ProcessEnv;
  run(
    args: readonly string[],
    options?: { input?: string; env?: NodeJS.ProcessEnv; cwd?: string },
  ): Promise<CliResult>;
  /** As run; throws with what it wrote when it does not exit with 0. */
  ok(
    args: readonly string[],
    options?: { input?: string; env?: NodeJS.ProcessEnv; cwd?: string },
  ): Promise<string>;
  json<T = Record<string, unknown>>(args: readonly string[]): Promise<T>;
  start(args: readonly string[], options?: { env?: NodeJS.ProcessEnv }): ChildProcess;
  /** What is left of mounts and records below the run directory; empty after everything was undone. */
  leftovers(): Promise<string[]>;
}

const hosts: SkimHost[] = [];

// A test that failed half-way must not leave a mount behind: its directory could not be removed.
afterAll(async () => {
  for (const host of hosts) {
    for (const { id, kind } of await host.json<{ id: string; kind: string }[]>(["ps"])) {
      await host.run([...(kind === "mount" ? ["umount"] : ["rootfs", "umount"]), id, "--force"]);
    }
  }
});

export async function makeSkimHost(): Promise<SkimHost> {
  const dir = await makeTempDir("host");
  const cacheDir = path.join(dir, "cache");
  const runDir = path.join(dir, "run");
  const env = { ...process.env, SKIM_CACHE_DIR: cacheDir, SKIM_RUN_DIR: runDir };
  const start: SkimHost["start"] = (args, options = {}) =>
    spawn(process.execPath, [cliFile, ...args], {
      env: { ...env, ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
  const run: SkimHost["run"] = async (args, options = {}) => {
    const child = spawn(process.execPath, [cliFile, ...args], {
      env: { ...env, ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
      ...(options.cwd ? { cwd: options.cwd } : {}),
    });
    return await resultOf(child, options.input);
  };
  const ok: SkimHost["ok"] = async (args, options) => {
    const result = await run(args, options);
    if (result.code !== 0)
      throw new Error(`skim ${args.join(" ")} exited with ${result.code}\n${result.stdout}${result.stderr}`);
    return result.stdout;
  };
  const host: SkimHost = {
    cacheDir,
    runDir,
    env,
    run,
    ok,
    json: async (args) => JSON.parse(await ok([...args, "--json"])),
    start,
    leftovers: async () => {
      const mounts = (await readFile("/proc/self/mountinfo", "utf8"))
        .split("\n")
        .filter((line) => line.includes(dir));
      const found: string[] = [];
      for (const below of ["mounts", "rootfs", "images", "bundles", "runc"]) {
        found.push(
          ...(await readdir(path.join(runDir, below)).catch(() => [])).map((name) => `${below}/${name}`),
        );
      }
      const uppers = await readdir(path.join(cacheDir, "rootfs")).catch(() => []);
      return [...mounts, ...found, ...uppers.map((name) => `cache/rootfs/${name}`)];
    },
  };
  hosts.push(host);
  return host;
}

export async function resultOf(child: ChildProcess, input?: string): Promise<CliResult> {
  const collected = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  child.stdout?.on("data", (piece: Buffer) => collected.stdout.push(piece));
  child.stderr?.on("data", (piece: Buffer) => collected.stderr.push(piece));
  child.stdin?.on("error", () => {});
  child.stdin?.end(input);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exitCode, exitSignal) => resolve([exitCode, exitSignal]));
  });
  return {
    code,
    signal,
    stdout: Buffer.concat(collected.stdout).toString("utf8"),
    stderr: Buffer.concat(collected.stderr).toString("utf8"),
  };
}
