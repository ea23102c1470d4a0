/** What a mount server and the process that starts it say to each other over the IPC channel. */
import type { ErrorCode } from "../base/errors.js";
import type { LogLevel } from "../base/logger.js";
import type { MountServerOptions } from "./mount-server.js";

/** The first message of the parent. */
export interface MountServerLaunch extends MountServerOptions {
  /** Where both standard streams of the server go from then on. */
  readonly logFile: string;
  readonly logLevel: LogLevel;
  /** Arguments of the `skim` that undoes everything of this id. */
  readonly undoArguments: readonly string[];
}

/** What the parent says when the mount is to outlive it. */
export const detachMessage = "detach";

export type LaunchReport = { ready: true } | { ready: false; code: ErrorCode; message: string };
