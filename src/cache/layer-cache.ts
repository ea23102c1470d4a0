/**
 * One layer in the disk cache. What comes out of it has been verified: a span's first use in this process reads it whole and compares its
 * sha256; from then on its bytes are read straight from the file. What fails the comparison is forgotten, and is simply not there.
 *
 * The cache never fails a read. Where the disk does (full, read-only, gone), the layer is served without it: one warning is
 * logged, and it is tried again after a pause. Files that somebody deleted or truncated are closed, so that their space comes
 * free, and made anew.
 *
 * Reads of verified spans are synchronous. For pages that the kernel has in memory that takes 17 us for 128 KiB against 33 us through
 * libuv's pool (35 against 57 for 256 KiB; 2-core VM, Linux 6.18), and the pages are there: this process has read or
 * written them, and the kernel keeps what goes through a mount, so it rarely asks twice. First uses, which may find a cold
 * disk, go through the pool, and so do digests.
 */
import { webcrypto } from "node:crypto";
import { existsSync, readSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { describeError, invariant, systemErrorCode } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { SingleFlight } from "../base/single-flight.js";
import type { CacheHandle, NativeBinding } from "../native/binding.js";
import { type CachedLayer, spanRecordsOf, spanTableOf } from "./cached-layer.js";
import { type LayerFileLayout, type LayerFiles, layerDirectory, openLayerFiles } from "./layer-files.js";
import { SpanState, stateAt } from "./presence-map.js";
import { type Clock, readSpanUses, type SpanUse, writeUse } from "./use-times.js";

export interface LayerCacheOptions {
  readonly logger: Logger;
  readonly native: Pick<
    NativeBinding,
    "cacheOpen" | "cacheVerified" | "cacheUsed" | "cacheVerifyAhead" | "cacheClose" | "tryLock"
  >;
  /** How long the disk is left alone after it failed. */
  readonly retryAfterMs: number;
  readonly clock: Clock;
  readonly recordsUse: boolean;
  /** False while nothing more may be written, because the disk is needed by others. */
  mayWrite(): boolean;
  /** A span was written, or could not be for want of room. */
  onWritten(bytes: number): void;
  onFull(): void;
}

/** The files of a layer while they are open, as JavaScript and as native threads read them. */
interface OpenFiles {
  readonly files: LayerFiles;
  /** For engines that read the files themselves. */
  readonly handle: CacheHandle;
  /**
   * 1 for each span whose bytes in these files were verified, or written, by this process. One memory with native threads, hence
   * Atomics; it belongs to the files, and goes with them.
   */
  readonly verified: Uint8Array;
  /** 1 for each span that was used since that was last written down; as `verified` otherwise. */
  readonly used: Uint8Array;
}

/** Is told of the files of a layer when they are opened, and with undefined when they are given up. */
export type FilesListener = (handle: CacheHandle | undefined) => void;

/** What is written to files that were deleted less long ago is lost: it is fetched again. */
const checkIntervalMs = 100;
const presentByte = Uint8Array.of(SpanState.present);
const absentByte = Uint8Array.of(SpanState.absent);

export class LayerCache {
  readonly #layer: CachedLayer;
  readonly #fileLayout: LayerFileLayout;
  readonly #cacheDir: string;
  readonly #options: LayerCacheOptions;
  readonly #opening = new SingleFlight<"files", void>();
  readonly #loading = new SingleFlight<number, Uint8Array | "absent" | "damaged">();
  readonly #probe = new Uint8Array(1);
  readonly #listeners = new Set<FilesListener>();
  #open: OpenFiles | undefined;
  #closing: Promise<void> = Promise.resolve();
  #closed = false;
  /** Times of performance.now(): before them nothing is opened, or written. */
  #openAgainAtMs = 0;
  #writeAgainAtMs = 0;
  #checkedAtMs = Number.NEGATIVE_INFINITY;
  #failing = false;

  constructor(cacheDir: string, layer: CachedLayer, layout: Buffer, options: LayerCacheOptions) {
    this.#cacheDir = cacheDir;
    this.#layer = layer;
    const { digest, uncompressedBytes, spanCount } = layer;
    this.#fileLayout = { digest, uncompressedBytes, spanCount, layout, spanTable: () => spanTableOf(layer) };
    this.#options = options;
  }

  /** Tells `listener` of the files as they are now, where they are open, and of every change until the returned function is called. */
  watch(listener: FilesListener): () => void {
    this.#listeners.add(listener);
    if (this.#open) listener(this.#open.handle);
    return () => void this.#listeners.delete(listener);
  }

  /** Opens the files where they are not open and it is not too soon after a failure. Needed before `has`. Never throws. */
  async open(): Promise<void> {
    if (this.#open || this.#closed || performance.now() < this.#openAgainAtMs) return;
    await this.#opening.run("files", async () => {
      try {
        const files = await openLayerFiles(this.#cacheDir, this.#fileLayout, this.#options.native);
        if (this.#closed) return await files.close();
        this.#use(files);
        if (files.writable && this.#options.recordsUse) await writeUse(files.map, [], this.#options.clock());
        if (!files.writable) this.#writeAgainAtMs = this.#report(undefined, "it can only be read");
      } catch (error) {
        this.#openAgainAtMs = this.#report(error, "its files cannot be opened");
      }
    });
  }

  /** True where this host has nothing of the layer, as far as a look at the directory tells. Needs no files to be open. */
  get isUnknown(): boolean {
    return !this.#open && !existsSync(layerDirectory(this.#cacheDir, this.#layer.digest));
  }

  /** True where a write has a chance: the disk has not failed lately. */
  get accepts(): boolean {
    const now = performance.now();
    return (
      !this.#closed &&
      now >= this.#writeAgainAtMs &&
      (this.#open !== undefined || now >= this.#openAgainAtMs) &&
      this.#options.mayWrite()
    );
  }

  /** True where the span is said to be on disk. Whether it really is, `load` finds out. One byte is read, from the page cache. */
  has(span: number): boolean {
    const open = this.#open;
    if (!open) return false;
    return isVerified(open, span) || this.#state(open, span) === SpanState.present;
  }

  #state(open: OpenFiles, span: number): number {
    try {
      if (readSync(open.files.map.fd, this.#probe, 0, 1, stateAt(span)) === 1) return this.#probe[0]!;
    } catch {}
    return SpanState.absent;
  }

  /**
   * Fills `into` from `spanOffset` of a span that was verified before. False where it was not, or where its bytes are no longer
   * to be had; what `into` holds then means nothing. Synchronous, see above.
   */
  readVerified(span: number, spanOffset: number, into: Uint8Array): boolean {
    const open = this.#open;
    if (!open || !isVerified(open, span)) return false;
    const offset = this.#layer.span(span).uncompressedOffset + spanOffset;
    noteUse(open, span);
    try {
      if (readSync(open.files.data.fd, into, 0, into.length, offset) === into.length) return true;
      this.#abandon(open, "the data file was truncated");
    } catch (error) {
      Atomics.store(open.verified, span, 0);
      this.#warn({ span, error: describeError(error) }, "cached span cannot be read, fetching it again");
    }
    return false;
  }

  /**
   * The whole span from disk, its digest checked now. "absent": not on disk. "damaged": it was said to be, and is now
   * forgotten. Callers share one load; of those, only one is told of damage, so that it can be counted. Never throws. Read
   * and digest run on the thread pool.
   */
  async load(span: number): Promise<Uint8Array | "absent" | "damaged"> {
    await this.open();
    let joined = true;
    const loaded = await this.#loading.run(span, async () => {
      joined = false;
      const open = this.#open;
      if (!open || !this.has(span)) return "absent";
      const { uncompressedOffset, uncompressedLength, sha256 } = this.#layer.span(span);
      try {
        const bytes = Buffer.allocUnsafeSlow(uncompressedLength);
        const whole = await readFully(open.files.data, bytes, uncompressedOffset);
        const digest = whole && (await webcrypto.subtle.digest("SHA-256", bytes));
        if (digest && Buffer.from(digest).equals(sha256)) {
          Atomics.store(open.verified, span, 1);
          noteUse(open, span);
          return bytes;
        }
        if (!whole) this.#abandon(open, "the data file was truncated");
        this.#warn({ span }, "cached span is damaged, fetching it again");
      } catch (error) {
        // Files that were let go of meanwhile are no sign of damage.
        if (this.#open !== open) return "absent";
        this.#warn({ span, error: describeError(error) }, "cached span cannot be read, fetching it again");
      }
      await this.drop(span);
      return "damaged";
    });
    return loaded === "damaged" && joined ? "absent" : loaded;
  }

  /** Verifies spans that will be read, one after the other, where they are on disk: their readers need not wait for it then. The files must have been opened. Never throws. */
  async verifyAhead(spans: readonly number[]): Promise<void> {
    const open = this.#open;
    if (!open) return;
    const unverified = spans.filter((span) => !isVerified(open, span) && this.has(span));
    if (unverified.length > 0)
      await this.#options.native.cacheVerifyAhead(open.handle, Uint32Array.from(unverified));
  }

  /** When each span that is on disk was last used, in seconds since 1970. The files must have been opened. Never throws. */
  usedSpans(): SpanUse[] {
    const open = this.#open;
    try {
      return open ? readSpanUses(open.files.map.fd, this.#layer.spanCount) : [];
    } catch {
      return [];
    }
  }

  /**
   * Stores a span whose digest the caller has checked. False where the disk did not take it; a span that is being evicted is not stored, which is no failure.
   * Never throws. `bytes` must not change before it settles.
   */
  async write(span: number, bytes: Uint8Array): Promise<boolean> {
    const { uncompressedOffset, uncompressedLength } = this.#layer.span(span);
    invariant(bytes.length === uncompressedLength, "a span is written to the cache whole");
    if (!this.accepts) return false;
    this.#releaseStaleNowAndThen();
    if (this.#open && isVerified(this.#open, span)) return true;
    if (this.#open?.files.writable === false) this.#abandon(this.#open, "they could only be read");
    await this.open();
    const open = this.#open;
    if (!open?.files.writable) return false;
    // A hole may be punched there at any time. The state cannot come to be while these files are open, see presence-map.ts.
    if (this.#state(open, span) === SpanState.evicting) return true;
    try {
      await writeFully(open.files.data, bytes, uncompressedOffset);
      await writeFully(open.files.map, presentByte, stateAt(span));
    } catch (error) {
      // Files that were closed meanwhile are no sign of a failing disk.
      if (this.#open === open) this.#writeAgainAtMs = this.#report(error, "it cannot be written");
      if (systemErrorCode(error) === "ENOSPC") this.#options.onFull();
      return false;
    }
    Atomics.store(open.verified, span, 1);
    noteUse(open, span);
    this.#failing = false;
    this.#options.onWritten(bytes.length);
    return true;
  }

  /**
   * The files for native code that is about to write a span whose digest it has checked; undefined where `write` would not do so now. To be followed by
   * `stored`, if it has. Synchronous: the files must have been opened.
   */
  storing(span: number): CacheHandle | undefined {
    if (!this.accepts) return undefined;
    this.#releaseStaleNowAndThen();
    const open = this.#open;
    if (!open?.files.writable || isVerified(open, span)) return undefined;
    return this.#state(open, span) === SpanState.evicting ? undefined : open.handle;
  }

  /** Native code was given `handle` for the span: true where it has written it there, and it can be read. */
  stored(span: number, handle: CacheHandle): boolean {
    const open = this.#open;
    if (open?.handle !== handle || !isVerified(open, span)) return false;
    this.#failing = false;
    this.#options.onWritten(this.#layer.span(span).uncompressedLength);
    return true;
  }

  /** Forgets a span: it is not on disk any more as far as anybody knows. Never throws. */
  async drop(span: number): Promise<void> {
    const open = this.#open;
    if (!open) return;
    Atomics.store(open.verified, span, 0);
    if (!open.files.writable) return;
    // A failure leaves the span to be found damaged once more, by the next process.
    await writeFully(open.files.map, absentByte, stateAt(span)).catch(() => {});
  }

  /**
   * Lets go of files that somebody deleted or truncated, whose space is taken until then, and goes on to the map that spans were taken out
   * of for eviction, which waits until then. Cheap; to be called every few seconds.
   */
  releaseStale(): void {
    const open = this.#open;
    if (!open) return;
    try {
      const staleness = open.files.staleness();
      if (staleness === "deleted") this.#abandon(open, "they were deleted or truncated");
      if (staleness === "replaced") {
        this.#abandon(open, "spans are evicted from them");
        void this.open();
      }
    } catch (error) {
      this.#abandon(open, describeError(error));
    }
  }

  /** Before a write, which would be for nothing into files that are gone. Three calls into the kernel are too much for each of a hundred spans. */
  #releaseStaleNowAndThen(): void {
    const now = performance.now();
    if (now < this.#checkedAtMs + checkIntervalMs) return;
    this.#checkedAtMs = now;
    this.releaseStale();
  }

  /** Writes down which spans were used since this was last called. Never throws: without it they only seem older than they are. */
  async recordUse(): Promise<void> {
    const open = this.#open;
    if (!open?.files.writable || !this.#options.recordsUse) return;
    const spans: number[] = [];
    for (let span = 0; span < open.used.length; span++)
      if (Atomics.load(open.used, span) === 1 && Atomics.exchange(open.used, span, 0) === 1) spans.push(span);
    if (spans.length > 0) await writeUse(open.files.map, spans, this.#options.clock(), this.#layer.spanCount);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#opening.run("files", async () => {});
    await this.recordUse();
    if (this.#open) this.#letGo(this.#open);
    await this.#closing;
  }

  #use(files: LayerFiles): void {
    const { native } = this.#options;
    const handle = native.cacheOpen(files.data.fd, files.map.fd, spanRecordsOf(this.#layer));
    this.#open = {
      files,
      handle,
      verified: native.cacheVerified(handle),
      used: native.cacheUsed(handle),
    };
    for (const listener of this.#listeners) listener(handle);
  }

  #abandon(open: OpenFiles, why: string): void {
    if (this.#open !== open) return;
    this.#letGo(open);
    this.#options.logger.info({ layer: this.#layer.digest, why }, "cache files of a layer are opened anew");
  }

  #letGo(open: OpenFiles): void {
    this.#open = undefined;
    for (const listener of this.#listeners) listener(undefined);
    this.#options.native.cacheClose(open.handle);
    this.#closing = Promise.all([this.#closing, open.files.close().catch(() => {})]).then(() => {});
  }

  /** One warning for each time the disk begins to fail. Returns when to try again. */
  #report(error: unknown, what: string): number {
    const { retryAfterMs } = this.#options;
    if (!this.#failing) {
      const fields = error === undefined ? { retryAfterMs } : { retryAfterMs, error: describeError(error) };
      this.#warn(fields, `layer is not cached on disk: ${what}`);
    }
    this.#failing = true;
    return performance.now() + retryAfterMs;
  }

  #warn(fields: Record<string, unknown>, message: string): void {
    this.#options.logger.warn({ layer: this.#layer.digest, cacheDir: this.#cacheDir, ...fields }, message);
  }
}

function isVerified(open: OpenFiles, span: number): boolean {
  return Atomics.load(open.verified, span) === 1;
}

/** Looked at first: threads that read the same span should not fight for the byte. */
function noteUse(open: OpenFiles, span: number): void {
  if (Atomics.load(open.used, span) === 0) Atomics.store(open.used, span, 1);
}

async function readFully(file: FileHandle, into: Uint8Array, offset: number): Promise<boolean> {
  for (let at = 0; at < into.length; ) {
    const { bytesRead } = await file.read(into, at, into.length - at, offset + at);
    if (bytesRead === 0) return false;
    at += bytesRead;
  }
  return true;
}

async function writeFully(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    at += (await file.write(bytes, at, bytes.length - at, offset + at)).bytesWritten;
  }
}
