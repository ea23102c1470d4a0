/** Which keeper there is: systemd's descriptor store where it is offered, else a holder, which is started where none runs. */
import { invariant } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { DescriptorKeeper } from "./descriptor-keeper.js";

export interface OpenKeeperOptions {
  /** Must be there, and belong to this user alone. */
  readonly runDir: string;
  /**
   * The program that is to be started where the server dies: with the environment below, in "/", its output appended to the log file. Undefined: nobody starts it
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

/** Throws ENVIRONMENT where the holder cannot be started or does not answer. */
export async function openDescriptorKeeper(_options: OpenKeeperOptions): Promise<DescriptorKeeper> {
  invariant(false, "a keeper is built");
}
