import { Histogram, latencyBoundsSeconds } from "../../src/base/histogram.js";
import type { Digest } from "../../src/image/digest.js";
import type { ObservedMount } from "../../src/mount/observe-mounts.js";
import type { MountStats } from "../../src/mount/serve-image.js";

/** Of values in seconds. */
export function times(...seconds: number[]) {
  const histogram = new Histogram(latencyBoundsSeconds);
  for (const one of seconds) histogram.observe(one);
  return histogram.snapshot();
}

export function digestNumbered(number: number): Digest {
  return `sha256:${number.toString(16).padStart(64, "0").split("").reverse().join("")}` as Digest;
}

/** A mount whose server says this, and nothing happened otherwise. */
export function observed(id: string, stats: Partial<MountStats> = {}): ObservedMount & { stats: MountStats } {
  return {
    id,
    kind: "rootfs",
    reference: "registry.test/app:1",
    lower: `/run/skim/rootfs/${id}/lower`,
    pid: 1,
    alive: true,
    createdAt: "2026-01-01T00:00:00.000Z",
    state: "serving",
    stats: {
      id,
      reference: "registry.test/app:1",
      imageBytes: 1000,
      archiveBytes: 100,
      content: {},
      registry: { requests: 0, bytes: 0 },
      operations: {},
      replayed: { from: "nothing", spans: 0 },
      presence: { spans: 10, presentSpans: 0, compressedBytes: 1000, presentCompressedBytes: 0 },
      complete: false,
      manifestDigest: digestNumbered(1),
      servingSince: "2026-01-01T00:00:00.000Z",
      servingMs: 1000,
      servingSinceMs: 5000,
      readyMs: 20,
      landed: { memory: times(), cache: times(), network: times() },
      phases: { network: times(), inflate: times(), queue: times() },
      unserved: 0,
      waiting: 0,
      waitingLongest: [],
      slowest: [],
      inFlight: [],
      mirrors: [],
      evictions: { layers: 0, spans: 0, bytes: 0 },
      ...stats,
    },
  };
}
