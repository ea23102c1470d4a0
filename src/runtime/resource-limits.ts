/**
 * Limits of memory, processor time and processes, in the words of the runtime spec (config-linux.md, "Control groups"). They are those of cgroup v1;
 * runtimes translate them for v2.
 */
import { SkimError } from "../base/errors.js";

export interface ResourceLimits {
  /** Of memory, swap not counted. */
  readonly memoryBytes?: number;
  /** Processors' worth of time, e.g. 1.5. */
  readonly cpus?: number;
  readonly pids?: number;
}

export interface SpecResources {
  readonly memory?: { readonly limit: number };
  readonly cpu?: { readonly quota: number; readonly period: number };
  readonly pids?: { readonly limit: number };
}

/** The kernel's default, microseconds: docker's --cpus uses it as well. */
const periodUs = 100_000;
/** The kernel refuses less than a millisecond of a period. */
const quotaUsMin = 1000;
/** Docker's: with less no runtime comes up. */
const memoryBytesMin = 6 * 2 ** 20;

/** Throws USAGE for limits that no container can start with. */
export function resourcesOf(limits: ResourceLimits = {}): SpecResources {
  const { memoryBytes, cpus, pids } = limits;
  if (memoryBytes !== undefined && !(Number.isSafeInteger(memoryBytes) && memoryBytes >= memoryBytesMin))
    throw new SkimError("USAGE", `a memory limit of ${memoryBytes} bytes cannot be; the least is 6MiB`);
  if (cpus !== undefined && !(cpus * periodUs >= quotaUsMin && cpus <= 65536))
    throw new SkimError("USAGE", `a limit of ${cpus} processors cannot be; the least is 0.01`);
  if (pids !== undefined && !(Number.isSafeInteger(pids) && pids >= 1))
    throw new SkimError("USAGE", `a limit of ${pids} processes cannot be; the least is 1`);
  return {
    ...(memoryBytes === undefined ? {} : { memory: { limit: memoryBytes } }),
    ...(cpus === undefined ? {} : { cpu: { quota: Math.round(cpus * periodUs), period: periodUs } }),
    ...(pids === undefined ? {} : { pids: { limit: pids } }),
  };
}
