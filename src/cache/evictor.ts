/**
 * Keeps what is on disk within its limits: looks at everything, plans (eviction-plan.ts), and carries the plan out (layer-eviction.ts). One process on a cache directory
 * evicts at a time; it holds `<cacheDir>/eviction.lock`, which the kernel lets go of when it dies. Whatever the process before it has left half
 * done is finished first.
 */
import { stat, statfs } from "node:fs/promises";
import path from "node:path";
import { systemErrorCode } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { type EvictionPlan, type LayerSpans, planEviction, type SpaceLimits } from "./eviction-plan.js";
import { type FileLock, lockFile, tryLockFile } from "./file-lock.js";
import {
  type EvictionNative,
  finishEviction,
  removeDamagedLayer,
  retireMap,
  unlinkLayer,
} from "./layer-eviction.js";
import { readPins } from "./pins.js";
import { SpanState } from "./presence-map.js";
import { type SpanLayer, SpanLayers } from "./span-layers.js";
import type { LayerStock, StoredLayer } from "./stored-layer.js";
import type { Clock } from "./use-times.js";

/** Every process looks every 5 seconds whether it must go on to another map; a busy one may be late. */
const graceMsDefault = 15_000;

export interface FilesystemSpace {
  readonly totalBytes: number;
  /** For unprivileged users: what others can count on. */
  readonly freeBytes: number;
}

export interface EvictorOptions {
  readonly cacheDir: string;
  readonly native: EvictionNative;
  readonly logger: Logger;
  /** Besides the span cache. */
  readonly stocks: readonly LayerStock[];
  /** From the size of the filesystem, which limits may be shares of. */
  limits(space: FilesystemSpace): SpaceLimits;
  readonly clock?: Clock;
  readonly spaceOf?: (directory: string) => Promise<FilesystemSpace>;
  /** Called when other maps have taken the place of those that this process may have open: it should go on to them at once. */
  readonly onRetired?: () => void;
  readonly graceMs?: number;
}

export interface EvictionRun {
  /** Instead of the limit; nothing beyond it is freed. */
  readonly bytesMax?: number;
  /** Waits for another process that is evicting; otherwise there is nothing to do while one does. */
  readonly wait?: boolean;
  /** Looks for leftovers and damage also where everything is within its limits. */
  readonly thorough?: boolean;
  /** How long holes wait for their readers, instead of the evictor's own. */
  readonly graceMs?: number;
  /** Ends the waiting, and begins nothing new. */
  readonly signal?: AbortSignal;
}

export interface EvictionReport {
  readonly usedBytesBefore: number;
  readonly usedBytes: number;
  readonly bytesMax: number;
  readonly freeBytes: number;
  readonly freeBytesMin: number;
  readonly layers: readonly {
    readonly kind: StoredLayer["kind"];
    readonly digest: string;
    readonly bytes: number;
  }[];
  readonly spans: readonly { readonly digest: string; readonly spans: number; readonly bytes: number }[];
  /** Holes that wait for a reader, in bytes; whoever evicts next punches them. */
  readonly waitingBytes: number;
  readonly leftovers: number;
}

export class Evictor {
  readonly #options: EvictorOptions;
  readonly #spanLayers: SpanLayers;

  constructor(options: EvictorOptions) {
    this.#options = options;
    this.#spanLayers = new SpanLayers(options.cacheDir, options.native);
  }

  /** What a run would do now. Nothing is changed. */
  async plan(run: Pick<EvictionRun, "bytesMax"> = {}): Promise<EvictionReport> {
    const { plan, limits, space } = await this.#look(run);
    return {
      ...reportOf(plan, limits, space),
      layers: plan.layers.map(({ kind, digest, diskBytes }) => ({ kind, digest, bytes: diskBytes })),
      spans: plan.spans.map(({ layer, spans, bytes }) => ({
        digest: layer.digest,
        spans: spans.length,
        bytes,
      })),
      usedBytes: Math.max(0, plan.usedBytes - plan.plannedBytes),
      leftovers: 0,
    };
  }

  /** Undefined where another process evicts now, or there is no cache directory. Throws what node:fs and flock(2) throw, and CANCELLED. */
  async run(run: EvictionRun = {}): Promise<EvictionReport | undefined> {
    if (!(await isDirectory(this.#options.cacheDir))) return undefined;
    const lock = await this.#lock(run);
    if (!lock) return undefined;
    try {
      const within = run.thorough ? undefined : await this.#glance(run);
      return within ?? (await this.#runAlone(run));
    } finally {
      await lock.release();
    }
  }

  async #lock({ wait, signal }: EvictionRun): Promise<FileLock | undefined> {
    const { cacheDir, native } = this.#options;
    const file = path.join(cacheDir, "eviction.lock");
    return wait ? await lockFile(file, native, signal) : await tryLockFile(file, native);
  }

  async #runAlone(run: EvictionRun): Promise<EvictionReport> {
    const { native, logger, stocks, clock = Date.now } = this.#options;
    let leftovers = 0;
    for (const stock of [this.#spanLayers, ...stocks]) leftovers += await stock.removeLeftovers(clock());
    for (const { names, map, evicting } of await this.#spanLayers.list()) {
      if (evicting) await finishEviction(names, native, { waitMsMax: 0 });
      else if (map && map.spansIn(SpanState.evicting).length === 0) continue;
      if (await removeDamagedLayer(names, native)) leftovers++;
    }

    const { plan } = await this.#look(run);
    const layers: EvictionReport["layers"][number][] = [];
    for (const layer of plan.layers) {
      if (run.signal?.aborted) break;
      if ((await layer.remove()) !== "removed") continue;
      layers.push({ kind: layer.kind, digest: layer.digest, bytes: layer.diskBytes });
    }
    const spans = await this.#evictSpans(plan.spans, run);
    const after = await this.#look(run);
    const report = {
      ...reportOf(after.plan, after.limits, after.space),
      usedBytesBefore: plan.usedBytes,
      layers,
      spans,
      leftovers,
    };
    if (layers.length > 0 || spans.length > 0) {
      const { usedBytesBefore, usedBytes, freeBytes, waitingBytes } = report;
      logger.info(
        { usedBytesBefore, usedBytes, freeBytes, waitingBytes, layers: layers.length, spans: spans.length },
        "cache evicted",
      );
    }
    return report;
  }

  /** The report where there is nothing to do, found out at a small part of the price of a look: this is what happens nearly always. */
  async #glance(run: EvictionRun): Promise<EvictionReport | undefined> {
    const { cacheDir, stocks, spaceOf = filesystemSpace } = this.#options;
    let usedBytes = 0;
    for (const stock of [this.#spanLayers, ...stocks]) usedBytes += await stock.diskBytes();
    const space = await spaceOf(cacheDir);
    const limits = this.#options.limits(space);
    const bytesMax = run.bytesMax ?? limits.bytesMax;
    const isWithin = usedBytes <= bytesMax && space.freeBytes >= limits.freeBytesMin;
    if (!isWithin || (await this.#spanLayers.isEvicting())) return undefined;
    return {
      usedBytesBefore: usedBytes,
      usedBytes,
      bytesMax,
      freeBytes: space.freeBytes,
      freeBytesMin: limits.freeBytesMin,
      layers: [],
      spans: [],
      waitingBytes: 0,
      leftovers: 0,
    };
  }

  async #evictSpans(
    chosen: readonly LayerSpans[],
    { signal, graceMs = this.#options.graceMs ?? graceMsDefault }: EvictionRun,
  ): Promise<EvictionReport["spans"][number][]> {
    const { native, onRetired } = this.#options;
    const retired: LayerSpans[] = [];
    const evicted: EvictionReport["spans"][number][] = [];
    const note = ({ layer, spans, bytes }: LayerSpans) =>
      evicted.push({ digest: layer.digest, spans: spans.length, bytes });
    for (const one of chosen) {
      if (signal?.aborted) break;
      try {
        if (await retireMap(one.layer.names, one.spans, native)) retired.push(one);
      } catch (error) {
        // Not even a new map fits.
        if (systemErrorCode(error) !== "ENOSPC") throw error;
        await unlinkLayer(one.layer.names, native);
        note(one);
      }
    }
    if (retired.length + evicted.length > 0) onRetired?.();
    const giveUpMs = performance.now() + graceMs;
    for (const one of retired) {
      const waitMsMax = Math.max(0, giveUpMs - performance.now());
      const { outcome } = await finishEviction(one.layer.names, native, { waitMsMax, signal });
      if (outcome !== "waiting") note(one);
    }
    return evicted;
  }

  async #look({ bytesMax }: Pick<EvictionRun, "bytesMax">) {
    const { cacheDir, stocks, spaceOf = filesystemSpace } = this.#options;
    const spanLayers = await this.#spanLayers.list();
    const others = await Promise.all(stocks.map((stock) => stock.list()));
    const { layers: pinned } = await readPins(cacheDir);
    const filesystem = await spaceOf(cacheDir);
    const usual = this.#options.limits(filesystem);
    const limits = { ...usual, bytesMax: bytesMax ?? usual.bytesMax };
    const space = { freeBytes: filesystem.freeBytes, pendingBytes: pendingBytesOf(spanLayers) };
    const plan = planEviction([...spanLayers, ...others.flat()], limits, space, {
      isPinned: ({ digest }) => pinned.has(digest),
      withoutMargin: bytesMax !== undefined,
    });
    return { plan, limits, space };
  }
}

/** Of holes that are not punched yet. */
function pendingBytesOf(layers: readonly SpanLayer[]): number {
  let bytes = 0;
  for (const { map, evicting } of layers)
    if (evicting && map) for (const span of map.spansIn(SpanState.evicting)) bytes += map.spanBytes(span);
  return bytes;
}

function reportOf(
  plan: EvictionPlan,
  limits: SpaceLimits,
  space: { freeBytes: number; pendingBytes: number },
) {
  return {
    usedBytesBefore: plan.usedBytes,
    usedBytes: plan.usedBytes,
    bytesMax: limits.bytesMax,
    freeBytes: space.freeBytes,
    freeBytesMin: limits.freeBytesMin,
    waitingBytes: space.pendingBytes,
  };
}

/** Of the filesystem that `directory` is on, or will be made on. */
export async function filesystemSpace(directory: string): Promise<FilesystemSpace> {
  const parent = path.dirname(directory);
  if (parent !== directory && !(await isDirectory(directory))) return await filesystemSpace(parent);
  const { bsize, blocks, bavail } = await statfs(directory);
  return { totalBytes: bsize * blocks, freeBytes: bsize * bavail };
}

async function isDirectory(name: string): Promise<boolean> {
  return (await stat(name).catch(() => undefined))?.isDirectory() ?? false;
}
