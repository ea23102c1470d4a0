/** What a figure is worth depends on where it was measured. */
import { cpus, release, totalmem } from "node:os";

export interface Host {
  readonly kernel: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryMiB: number;
  readonly node: string;
}

export function describeHost(): Host {
  const processors = cpus();
  return {
    kernel: release(),
    cpu: processors[0]?.model ?? "unknown",
    cores: processors.length,
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    node: process.version,
  };
}
