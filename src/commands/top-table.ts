/** The table of `skim top`: what each mount did between two looks. */
import { hitRatio, readSources } from "../mount/mount-figures.js";
import type { ObservedMount } from "../mount/observe-mounts.js";
import { formatPercent, formatTable } from "./format.js";

/** One look at all mounts. */
export interface Look {
  /** Of performance.now(). */
  readonly atMs: number;
  readonly mounts: readonly ObservedMount[];
}

/** A mount since the look before. Rates are undefined where there was none, or the mount was not in it. */
export interface MountRates {
  readonly id: string;
  readonly image: string;
  readonly state: ObservedMount["state"];
  readonly readsPerSecond: number | undefined;
  readonly servedBytesPerSecond: number | undefined;
  readonly fetchedBytesPerSecond: number | undefined;
  /** Of the spans that were read since the look before; of all since the mount, where none were or there was no such look. */
  readonly hitRatio: number | undefined;
  /** Spans that readers wait for, and requests under way. */
  readonly waiting: number | undefined;
  readonly inFlight: number | undefined;
  /** Compressed bytes of the image that are in the cache, 0 to 1. */
  readonly present: number | undefined;
}

export function ratesOf(now: Look, before: Look | undefined): MountRates[] {
  const seconds = before ? (now.atMs - before.atMs) / 1000 : 0;
  const earlier = new Map(before?.mounts.map((mount) => [mount.id, mount]));
  return now.mounts.map((mount) => {
    const { id, reference, state, stats } = mount;
    const last = earlier.get(id)?.stats;
    const known = stats !== undefined && last !== undefined && seconds > 0;
    const rate = (count: (of: NonNullable<typeof stats>) => number) =>
      known ? Math.max(0, growth(count(stats), count(last))) / seconds : undefined;
    return {
      id,
      image: reference,
      state,
      readsPerSecond: rate(({ content }) => content.reads_total ?? 0),
      servedBytesPerSecond: rate(({ content }) => content.read_bytes_total ?? 0),
      fetchedBytesPerSecond: rate(({ registry }) => registry.bytes),
      hitRatio: stats && hitsSince(stats, last),
      waiting: stats?.waiting,
      inFlight: stats?.inFlight.length,
      present: stats && presentShare(stats.presence),
    };
  });
}

/** A count that is below what it was is that of another server, which began at 0. */
function growth(count: number, before: number): number {
  return count >= before ? count - before : count;
}

function hitsSince(
  stats: NonNullable<ObservedMount["stats"]>,
  last: ObservedMount["stats"],
): number | undefined {
  const now = readSources(stats);
  const then = last && readSources(last);
  const since = then && {
    memory: growth(now.memory, then.memory),
    cache: growth(now.cache, then.cache),
    network: growth(now.network, then.network),
  };
  return (since && hitRatio(since)) ?? hitRatio(now);
}

function presentShare({
  compressedBytes,
  presentCompressedBytes,
}: NonNullable<ObservedMount["stats"]>["presence"]): number {
  return compressedBytes > 0 ? presentCompressedBytes / compressedBytes : 1;
}

const heading = [
  "ID",
  "STATE",
  "READS/S",
  "SERVED",
  "FETCHED",
  "HITS",
  "WAITING",
  "IN FLIGHT",
  "PRESENT",
  "IMAGE",
];

export function topTable(rates: readonly MountRates[]): string {
  const rows = rates.map((rate) => [
    rate.id,
    rate.state,
    rate.readsPerSecond === undefined ? "-" : rate.readsPerSecond.toFixed(0),
    megabytes(rate.servedBytesPerSecond),
    megabytes(rate.fetchedBytesPerSecond),
    formatPercent(rate.hitRatio),
    rate.waiting === undefined ? "-" : String(rate.waiting),
    rate.inFlight === undefined ? "-" : String(rate.inFlight),
    formatPercent(rate.present),
    rate.image,
  ]);
  return formatTable([heading, ...rows], [2, 3, 4, 5, 6, 7, 8]);
}

function megabytes(bytesPerSecond: number | undefined): string {
  return bytesPerSecond === undefined ? "-" : `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`;
}
