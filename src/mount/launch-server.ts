/**
 * Starts the server process of a mount and waits until the mount answers: the server has said that FUSE_INIT is done, and a stat of
 * the root *from this process* has come back as the archive's root. Nothing is waited for by time.
 */
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import path from "node:path";
import { SkimError } from "../base/errors.js";
import type { LogLevel } from "../base/logger.js";
import { identifyProcess, type ProcessIdentity, signalProcess } from "../base/process-identity.js";
import { detachMessage, type LaunchReport, type MountServerLaunch } from "./launch-protocol.js";
import type { MountServerOptions } from "./mount-server.js";
import { serverProgram, takeServerProcess } from "./server-process.js";

/** Until a server says ready or failed. It opens an archive and mounts; more than this is a wedged kernel or disk. */
const readyTimeoutMs = 30_000;

export interface LaunchOptions extends MountServerOptions {
  readonly logFile: string;
  readonly logLevel: LogLevel;
  /** Arguments of the `skim` that undoes everything of this id when this process dies before it detaches. */
  readonly undoArguments: readonly string[];
  readonly signal?: AbortSignal;
}

export interface LaunchedServer {
  readonly identity: ProcessIdentity;
  /** Resolves when the process has ended: to its signal or exit code, in words. */
  readonly exited: Promise<string>;
  /** Lets the process live on when this one ends. */
  detach(): Promise<void>;
}

/** Throws what the server failed with, MOUNT_FAILED when it dies or hangs without a word; then no process is left. */
export async function launchServer(options: LaunchOptions): Promise<LaunchedServer> {
  const { signal, ...launch } = options;
  const { logFile } = launch;
  signal?.throwIfAborted();
  if (!existsSync(serverProgram))
    throw new SkimError(
      "ENVIRONMENT",
      `skim is not built: ${serverProgram} is missing; run: npm run build:ts`,
    );
  mkdirSync(path.dirname(logFile), { recursive: true });
  const child = takeServerProcess();
  // A server that has died says so by its exit.
  child.send(launch satisfies MountServerLaunch, () => {});
  const exited = new Promise<string>((resolve) =>
    child.once("exit", (code, name) => resolve(name ?? `exit code ${code}`)),
  );
  try {
    await waitForReport(child, logFile, signal);
    const identity = identifyProcess(child.pid!);
    if (!identity) throw new SkimError("MOUNT_FAILED", `mount server ended at once; its log is ${logFile}`);
    await confirmMount(options.mountpoint, exited, logFile);
    const detach = async () => {
      await new Promise<void>((resolve) => child.send(detachMessage, () => resolve()));
      child.disconnect();
      child.unref();
    };
    return { identity, exited, detach };
  } catch (error) {
    const identity = child.pid === undefined ? undefined : identifyProcess(child.pid);
    const isRunning = child.pid !== undefined && child.exitCode === null && child.signalCode === null;
    if (identity && isRunning) signalProcess(identity, "SIGKILL");
    if (isRunning) await exited;
    throw error;
  }
}

function waitForReport(child: ChildProcess, logFile: string, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: unknown) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      child.off("message", onMessage).off("exit", onExit).off("error", onError);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onAbort = () => settle(signal?.reason);
    const onMessage = (report: LaunchReport) =>
      settle(report.ready ? undefined : new SkimError(report.code, report.message));
    const onExit = () =>
      settle(
        new SkimError(
          "MOUNT_FAILED",
          `mount server ended before the mount was ready: ${lastLogLine(logFile)}`,
        ),
      );
    const onError = (cause: Error) =>
      settle(new SkimError("MOUNT_FAILED", "mount server cannot be started", { cause }));
    const timer = setTimeout(
      () =>
        settle(
          new SkimError(
            "MOUNT_FAILED",
            `mount server was not ready after ${readyTimeoutMs} ms; its log is ${logFile}`,
          ),
        ),
      readyTimeoutMs,
    );
    child.on("message", onMessage).on("exit", onExit).on("error", onError);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** A stat through the mount. If the server dies meanwhile the kernel answers ENOTCONN, so this always comes back. */
async function confirmMount(mountpoint: string, exited: Promise<string>, logFile: string): Promise<void> {
  const root = await Promise.race([
    stat(mountpoint).catch((cause: unknown) => {
      throw new SkimError("MOUNT_FAILED", `mount at ${mountpoint} does not answer; its log is ${logFile}`, {
        cause,
      });
    }),
    exited,
  ]);
  if (typeof root === "string")
    throw new SkimError("MOUNT_FAILED", `mount server ended (${root}): ${lastLogLine(logFile)}`);
  const parent = await stat(path.dirname(mountpoint));
  if (root.ino !== 1 || root.dev === parent.dev || root.nlink < 1) {
    throw new SkimError(
      "MOUNT_FAILED",
      `${mountpoint} is not the mount that was made (inode ${root.ino}); its log is ${logFile}`,
    );
  }
}

function lastLogLine(logFile: string): string {
  try {
    const lines = readFileSync(logFile, "utf8").trimEnd().split("\n");
    return `${lines.at(-1)?.slice(0, 500) || "it wrote nothing"} (log: ${logFile})`;
  } catch {
    return `no log at ${logFile}`;
  }
}
