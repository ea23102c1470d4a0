/** `skim daemon` as a process: log, daemon, API, signals, and the end. */
import path from "node:path";
import { describeError } from "../base/errors.js";
import type { LogLevel } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import { Daemon } from "./daemon.js";
import { DaemonLog } from "./daemon-log.js";
import { MetricsPort } from "./metrics-port.js";
import { parseTcpAddress, requireSocketPath, serveApi, type TcpAddress } from "./serve-api.js";

/** Verifying and inflating for many mounts, and system calls of which some wait for a disk; the default are four. */
const poolThreads = 16;

export interface RunDaemonOptions {
  readonly settings: Settings;
  readonly logLevel: LogLevel;
  /** HOST:PORT on which only the metrics are served. */
  readonly metricsAddress?: string;
  /** As it was named on the command line. */
  readonly configFile?: string | undefined;
  /** Start it again when it dies. */
  readonly restart: boolean;
  /** Called when it takes requests. */
  readonly onReady?: (daemon: Daemon) => void;
}

/** Serves until told to end, by a signal, the API, or a daemon that takes over. Resolves when it has ended. */
export async function runDaemon(options: RunDaemonOptions): Promise<void> {
  // Read when the pool is first used, which is below.
  process.env.UV_THREADPOOL_SIZE ??= String(poolThreads);
  // Whoever starts it again, and what it starts, is in another directory.
  if (process.env.SKIM_CONFIG) process.env.SKIM_CONFIG = path.resolve(process.env.SKIM_CONFIG);
  const { settings, logLevel, restart } = options;
  // Before there is anything that a mistake could take the place of.
  const metricsAddress = options.metricsAddress ? parseTcpAddress(options.metricsAddress) : undefined;
  requireSocketPath(settings.runDir);
  const logs = new DaemonLog(settings.runDir);
  const logger = logs.logger(logLevel);
  // What has been mounted is worth more than a clean end.
  process.on("unhandledRejection", (error) =>
    logger.error({ error: describeError(error) }, "unhandled rejection"),
  );
  let daemon: Daemon | undefined;
  let isAsked = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      logger.info({ signal }, "ending; what is mounted waits for the next server");
      isAsked = true;
      void daemon?.stop();
    });
  process.on("SIGHUP", () => {});
  daemon = await Daemon.start({
    settings,
    logger,
    logs,
    restart: restart
      ? {
          file: process.execPath,
          args: [
            ...process.execArgv,
            path.resolve(import.meta.dirname, "../../dist/bin/skim.js"),
            ...process.argv.slice(2),
            // Of two the last one counts.
            ...["--run-dir", settings.runDir, "--cache-dir", settings.cacheDir],
            ...(options.configFile ? ["--config", path.resolve(options.configFile)] : []),
          ],
        }
      : undefined,
  });
  try {
    if (isAsked) await daemon.stop();
    else await serve(daemon, options, metricsAddress);
  } catch (error) {
    await daemon.abandon();
    throw error;
  }
  logs.close();
}

async function serve(
  daemon: Daemon,
  { settings, onReady }: RunDaemonOptions,
  metricsAddress: TcpAddress | undefined,
): Promise<void> {
  const { logger } = daemon;
  // Loaded here: readers that wait for this server are served already.
  const { createApi } = await import("./api.js");
  const api = createApi(daemon);
  const served = await daemon.open(() => serveApi(settings.runDir, api.fetch));
  if (!served) return await daemon.ended;
  const metrics = metricsAddress && new MetricsPort(metricsAddress, metricsOnly(api.fetch), logger);
  try {
    // Mounts are worth more than metrics: with mounts, it serves while its port is another's.
    const listening = metrics?.listen({ forever: daemon.images.list().length > 0 });
    if (daemon.images.list().length === 0) await Promise.race([listening, daemon.ended]);
    if (daemon.ready()) onReady?.(daemon);
    await daemon.ended;
  } finally {
    await Promise.all([served.close(), metrics?.close()]);
  }
}

/** Nothing else is to be had over TCP. */
function metricsOnly(fetch: (request: Request) => Response | Promise<Response>) {
  return (request: Request) =>
    new URL(request.url).pathname === "/metrics" && request.method === "GET"
      ? fetch(new Request("http://daemon/metrics"))
      : new Response("only /metrics is served here\n", { status: 404 });
}
