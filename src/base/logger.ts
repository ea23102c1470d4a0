import { pino } from "pino";
import { redact } from "./redact.js";

export type Logger = Pick<pino.Logger, "trace" | "debug" | "info" | "warn" | "error" | "level"> & {
  child(bindings: Record<string, unknown>): Logger;
};

export const logLevels = ["trace", "debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];

/** A library says nothing unless it is handed a logger. */
export const silentLogger: Logger = pino({ level: "silent" });

/**
 * Logs one JSON line an event to a descriptor (2 = standard error), synchronously: a server that is killed must not take its
 * last lines with it. Or to whatever takes lines. Every line goes through `redact`.
 */
export function createLogger(level: LogLevel, to: number | { write(line: string): void } = 2): Logger {
  const destination = typeof to === "number" ? pino.destination({ fd: to, sync: true }) : to;
  return pino(
    { level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime },
    { write: (line: string) => destination.write(redact(line)) },
  );
}
