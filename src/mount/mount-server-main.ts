/**
 * Entry point of the background process behind `skim mount`, `skim rootfs mount` and `skim run`; started by server-process.ts with
 * an IPC channel to the process that wants the mount, over which come its options.
 *
 * It reports `ready` or `failed` once. Until its parent says `detach`, the parent owns the mount: if the channel ends before, the parent has
 * died, and a process of its own cleans up after it. That one cannot be this process: undoing a rootfs touches the mount, and a server
 * that touches its own mount waits for itself. `skim run` never detaches.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import { describeError, isSkimError, SkimError } from "../base/errors.js";
import { createLogger, type Logger, silentLogger } from "../base/logger.js";
import { StartMarks } from "../base/start-marks.js";
import { loadNative } from "../native/load.js";
import { detachMessage, type LaunchReport, type MountServerLaunch } from "./launch-protocol.js";
import { type MountServer, startMountServer } from "./mount-server.js";

let launch: MountServerLaunch;
let logger: Logger = silentLogger;
let server: MountServer | undefined;
let detached = false;

function logTo(file: string): void {
  const log = openLog(file);
  for (const stream of [1, 2]) loadNative().duplicateOnto(log, stream);
  closeSync(log);
}

function openLog(file: string): number {
  try {
    return openSync(file, "a", 0o600);
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `log ${file} of a mount server cannot be written`, { cause });
  }
}

function report(message: LaunchReport): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, () => resolve());
    else resolve();
  });
}

/** The mount goes when nobody uses it any more; a signal that comes while it is in use is written down and otherwise ignored. */
function shutdown(reason: string): void {
  logger.info({ reason }, "shutting down");
  server
    ?.shutdown()
    .catch((error: unknown) => logger.error({ error: describeError(error) }, "cannot unmount yet"));
}

function cleanUpAfterOwner(): void {
  logger.warn({ undo: launch.undoArguments }, "the process that wanted this mount has died: cleaning up");
  const cli = path.resolve(import.meta.dirname, "../../dist/bin/skim.js");
  spawn(process.execPath, [cli, ...launch.undoArguments], {
    detached: true,
    stdio: ["ignore", "inherit", "inherit"],
    // Undoing needs no more settings; a settings file that is just being edited must not stop it.
    env: {
      ...process.env,
      SKIM_RUN_DIR: launch.settings.runDir,
      SKIM_CACHE_DIR: launch.settings.cacheDir,
      SKIM_CONFIG: "/dev/null",
    },
  }).unref();
}

function handleEvents(): void {
  process.on("SIGTERM", () => shutdown("SIGTERM"));
  process.on("SIGINT", () => shutdown("SIGINT"));
  // The terminal that started us may go; the mount stays.
  process.on("SIGHUP", () => {});
  process.on("message", (message) => {
    detached = message === detachMessage;
  });
  process.on("disconnect", () => {
    if (detached) return;
    cleanUpAfterOwner();
    if (!server) process.exit(1);
  });
  // A mount that goes on serving is worth more than a clean end: write down what nobody expected, and stay.
  process.on("unhandledRejection", (error) =>
    logger.error({ error: describeError(error) }, "unhandled rejection"),
  );
  process.on("uncaughtException", (error) => {
    logger.error({ error: describeError(error), stack: error.stack }, "uncaught exception");
    if (!server) process.exit(1);
  });
}

/** What will be needed, while nobody waits for it yet. That it is missing is said to whoever asks for a mount. */
function loadAhead(): void {
  try {
    loadNative();
  } catch {}
}

async function serve(): Promise<void> {
  // The one who started us may have died, or have failed before it came to mounting: then there is nothing to do.
  process.once("disconnect", () => process.exit(0));
  loadAhead();
  [launch] = (await once(process, "message")) as [MountServerLaunch];
  const marks = new StartMarks();
  marks.set("told");
  process.removeAllListeners("disconnect");
  process.title = `skim-mount ${launch.id}`;
  handleEvents();
  try {
    logTo(launch.logFile);
    const processLogger = createLogger(launch.logLevel, 2);
    logger = processLogger.child({ mount: launch.id });
    server = await startMountServer(launch, processLogger, marks);
    await report({ ready: true });
    await server.ended;
    if (launch.socketFile) await rm(launch.socketFile, { force: true });
    process.exit(0);
  } catch (error) {
    logger.error({ error: describeError(error) }, "mount failed");
    const code = isSkimError(error) ? error.code : "INTERNAL";
    await report({ ready: false, code, message: describeError(error) });
    process.exit(1);
  }
}

void serve();
