/** `skim daemon` as a process: log, daemon, API, signals, and the end. */
import path from "node:path";
import { describeError } from "../base/errors.js";
import type { LogLevel } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import { Daemon } from "./daemon.js";
import { DaemonLog } from "./daemon-log.js";

/** Verifying and inflating for many mounts, and system calls of which some wait for a disk; the default are four. */
const poolThreads = 16;

export interface RunDaemonOptions {
  readonly settings: Settings;
  readonly logLevel: LogLevel;
  /** HOST:PORT on which only the metrics are served. */
  readonly metricsAddress?: string;
  /** Start it again when it dies. */
  readonly restart: boolean;
  /** Called when it takes requests. */
  readonly onReady?: (daemon: Daemon) => void;
}

/** Serves until told to end, by a signal, the API, or a daemon that takes over. Resolves when it has ended. */
export async function runDaemon(options: RunDaemonOptions): Promise<void> {
  // Read when the pool is first used, which is below.
  process.env.UV_THREADPOOL_SIZE ??= String(poolThreads);
  const { settings, logLevel, restart } = options;
  const logs = new DaemonLog(settings.runDir);
  const logger = logs.logger(logLevel);
  // What has been mounted is worth more than a clean end.
  process.on("unhandledRejection", (error) =>
    logger.error({ error: describeError(error) }, "unhandled rejection"),
  );
  const daemon = await Daemon.start({
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
          ],
        }
      : undefined,
  });
  // Loaded here: readers that wait for this server are served already.
  const [{ createApi }, { serveApi, serveOverTcp }] = await Promise.all([
    import("./api.js"),
    import("./serve-api.js"),
  ]);
  const api = createApi(daemon);
  const served = await serveApi(settings.runDir, api.fetch);
  const metrics = options.metricsAddress
    ? await serveOverTcp(options.metricsAddress, metricsOnly(api.fetch))
    : undefined;
  if (metrics) logger.info({ address: metrics.address }, "metrics are served over TCP");
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      logger.info({ signal }, "ending; what is mounted waits for the next server");
      void daemon.stop();
    });
  process.on("SIGHUP", () => {});
  daemon.ready();
  options.onReady?.(daemon);
  await daemon.ended;
  await Promise.all([served.close(), metrics?.close()]);
  logs.close();
}

/** Nothing else is to be had over TCP. */
function metricsOnly(fetch: (request: Request) => Response | Promise<Response>) {
  return (request: Request) =>
    new URL(request.url).pathname === "/metrics" && request.method === "GET"
      ? fetch(new Request("http://daemon/metrics"))
      : new Response("only /metrics is served here\n", { status: 404 });
}
