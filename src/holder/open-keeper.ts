/** Which keeper there is: systemd's descriptor store where it is offered, else a holder, which is started where none runs. */
import { existsSync } from "node:fs";
import type { Logger } from "../base/logger.js";
import { findHolderProgram, loadNative } from "../native/load.js";
import type { DescriptorKeeper } from "./descriptor-keeper.js";
import { HolderKeeper } from "./holder-keeper.js";
import { HolderLink } from "./holder-link.js";
import { ServiceNotifier } from "./service-notifier.js";
import { SystemdKeeper } from "./systemd-keeper.js";

export interface OpenKeeperOptions {
  /** Must be there, and belong to this user alone. */
  readonly runDir: string;
  /**
   * The program (a path, not looked for in PATH) that is to be started where the server dies, or ends without `leave`: with the environment below, in "/", its output appended to the log file. Undefined: nobody starts it
   * again. Not used where there is systemd (NOTIFY_SOCKET), which does that itself.
   */
  readonly restart: { readonly file: string; readonly args: readonly string[] } | undefined;
  readonly logger: Logger;
  /** Of the holder too, which writes lines as `createLogger` does. */
  readonly logFile: string;
  readonly environment: NodeJS.ProcessEnv;
  /** A server that has not been heard of for so long is killed, and started again. 0: never. */
  readonly watchdogMs?: number;
  /**
   * The last resort: a connection with waiting requests is aborted (its readers get ENOTCONN) when so many servers in a row have died without having answered
   * anything. 0, the default: never.
   */
  readonly abortAfterRestarts?: number;
}

/** A server's event loop stands still for seconds only where something is wrong. */
const watchdogMsUsual = 10_000;

/** Throws ENVIRONMENT where the holder cannot be started or does not answer, IN_USE where another server is just taking over, LOCAL_IO. */
export async function openDescriptorKeeper(options: OpenKeeperOptions): Promise<DescriptorKeeper> {
  const { runDir, logger, logFile, environment } = options;
  const native = loadNative();
  const notifier = ServiceNotifier.fromEnvironment(environment, native, logger);
  const storedMax = descriptorStoreMax(environment);
  if (notifier && storedMax > 0)
    return new SystemdKeeper({ native, runDir, logger, environment, notifier, storedMax });
  return await HolderKeeper.open({
    native,
    program: findHolderProgram(),
    runDir,
    // Two who start the same server would start two.
    restart: notifier ? undefined : options.restart,
    logger,
    logFile,
    environment,
    watchdogMs: options.watchdogMs ?? watchdogMsUsual,
    abortAfterRestarts: options.abortAfterRestarts ?? 0,
    notifier,
  });
}

/** systemd says from version 254 on how many it stores (FDSTORE). Where an older one does, SKIM_FD_STORE=1 says so in the unit, and the number is the unit's secret. */
function descriptorStoreMax(environment: NodeJS.ProcessEnv): number {
  const told = Number.parseInt(environment.FDSTORE ?? "0", 10);
  if (told > 0) return told;
  return environment.SKIM_FD_STORE === "1" ? Number.POSITIVE_INFINITY : 0;
}

/** True where a holder lives that keeps connections of this run directory, whether or not a server does. */
export function holderLives(runDir: string): boolean {
  if (!existsSync(runDir)) return false;
  const link = HolderLink.connect(runDir, loadNative(), () => {});
  link?.close();
  return link !== undefined;
}
