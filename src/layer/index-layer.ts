import { createHash, type Hash } from "node:crypto";
import { describeError, invariant, SkimError, systemErrorCode } from "../base/errors.js";
import { limits } from "../base/limits.js";
import type { ProgressTask } from "../base/progress.js";
import { type Settings, settingEnvironment } from "../base/settings.js";
import { type DiffId, type Digest, digestAlgorithm } from "../image/digest.js";
import { Compression, type NativeBinding, type ScannerHandle } from "../native/binding.js";
import type { LayerEntry, LayerIndex } from "./layer-index.js";
import { SNIFF_BYTES, sniffCompression } from "./layer-kind.js";
import { ReadAhead } from "./read-ahead.js";
import { TarReader } from "./tar-reader.js";

/**
 * One pass over a layer blob: every byte is fetched once, inflated and hashed by the native scanner on a thread of libuv's pool, and pushed
 * through the tar reader. Three things go on at a time: the next pieces arrive, the scanner fills one output buffer, and
 * the reader goes over the other. With a sink there is a fourth: a third buffer is written.
 */
export interface IndexLayerOptions {
  /** Of the blob, as its descriptor has it. */
  readonly digest: Digest;
  /** Bytes of the blob, as its descriptor has them. */
  readonly size: number;
  /** What the image config says; undefined where nobody knows: then it is what comes out. */
  readonly diffId?: DiffId;
  /** 0: no spans are noted, which takes less than half the time. */
  readonly spanBytes: number;
  readonly settings: LayerLimits;
  readonly native: NativeBinding;
  /** Gets all uncompressed bytes too. */
  readonly sink?: LayerSink;
  /** Names the layer in errors: "layer 3 of 7, sha256:ab12...". */
  readonly where: string;
  /** Advanced by compressed bytes; not ended. */
  readonly progress?: ProgressTask;
  /** Looked at between pieces. The source gets it too, or a read that waits for the network goes on. */
  readonly signal?: AbortSignal;
}

/** Takes the uncompressed bytes of a pass on their way. */
export interface LayerSink {
  /**
   * The bytes at `offset` of the uncompressed layer, directly behind those of the call before; the next call may come before this one has settled.
   * `output` is used again afterwards. `entries` are all members whose headers have come by; more are added to the same array.
   * A rejection ends the pass with it.
   */
  write(output: Uint8Array, offset: number, entries: readonly LayerEntry[]): Promise<void>;
}

/** The settings that bound what a layer may grow to. */
export type LayerLimits = Pick<Settings, "layerUncompressedBytesMax" | "layerEntriesMax" | "layerRatioMax">;

/** One pass of the scanner fills at most this much: some milliseconds of work, so that a hop to the pool and back is small beside it. */
const OUTPUT_BYTES = 1024 * 1024;
/** Compressed bytes that may wait for the scanner. */
const READ_AHEAD_BYTES = 1024 * 1024;

/**
 * Indexes the layer that `blob` streams. The iteration is closed in any case, and nothing else outlives the call.
 *
 * Throws LAYER_UNSUPPORTED (not a tar in a known compression), LAYER_CORRUPT (short, long, does not inflate, is no proper tar),
 * DIGEST_MISMATCH, DIFF_ID_MISMATCH, LIMIT_EXCEEDED (naming the setting that raises it), CANCELLED, and what the source throws.
 */
export async function indexLayer(
  blob: AsyncIterable<Uint8Array>,
  options: IndexLayerOptions,
): Promise<LayerIndex> {
  if (options.signal?.aborted) throw cancelled(options);
  const input = new ReadAhead(blob, READ_AHEAD_BYTES);
  try {
    return await new LayerPass(input, options).run();
  } finally {
    await input.close();
  }
}

class LayerPass {
  readonly #input: ReadAhead;
  readonly #options: IndexLayerOptions;
  readonly #entries: LayerEntry[] = [];
  readonly #reader: TarReader;
  /** The scanner has sha256 only. */
  readonly #blobSha512: Hash | undefined;
  readonly #diffSha512: Hash | undefined;
  readonly #outputs: readonly Buffer[];
  /** Of each output buffer: settles when the sink is done with it. */
  readonly #written: Array<Promise<void> | undefined> = [];
  #turn = 0;
  #compressedBytes = 0;
  #uncompressedBytes = 0;

  constructor(input: ReadAhead, options: IndexLayerOptions) {
    this.#input = input;
    this.#options = options;
    this.#reader = new TarReader({
      where: options.where,
      entriesMax: options.settings.layerEntriesMax,
      onEntry: (entry) => this.#entries.push(entry),
    });
    const outputs = options.sink ? 3 : 2;
    this.#outputs = Array.from({ length: outputs }, () => Buffer.allocUnsafeSlow(OUTPUT_BYTES));
    this.#blobSha512 = digestAlgorithm(options.digest) === "sha512" ? createHash("sha512") : undefined;
    this.#diffSha512 =
      options.diffId && digestAlgorithm(options.diffId) === "sha512" ? createHash("sha512") : undefined;
  }

  async run(): Promise<LayerIndex> {
    try {
      return await this.#pass();
    } finally {
      await Promise.allSettled(this.#written);
    }
  }

  async #pass(): Promise<LayerIndex> {
    const { native, digest, spanBytes, where } = this.#options;
    const first = await this.#beginning();
    if (first.length < SNIFF_BYTES) this.#checkLength();
    const compression = sniffCompression(first, where);
    const scanner = native.scannerOpen(Compression[compression], spanBytes);
    for (let piece: Uint8Array | undefined = first; piece; piece = await this.#nextPiece()) {
      if (piece.length > 0) await this.#scan(scanner, piece);
    }
    this.#checkLength();
    await Promise.all(this.#written);
    const result = await this.#native(native.scannerFinish(scanner));
    invariant(result.compressedBytes === this.#compressedBytes, "the scanner has had the whole blob");
    invariant(result.uncompressedBytes === this.#uncompressedBytes, "the scanner has given all it inflated");
    this.#checkDigest(result.blobSha256);
    this.#reader.end();
    const diffId = this.#checkDiffId(result.uncompressedSha256);
    return {
      digest,
      diffId,
      compression,
      compressedBytes: result.compressedBytes,
      uncompressedBytes: result.uncompressedBytes,
      spanRecords: result.spanRecords,
      windows: result.windows,
      entries: this.#entries,
      trailingBytes: result.trailingBytes,
      warnings: this.#reader.warnings,
    };
  }

  /** Enough bytes to know the compression by, or all there are. */
  async #beginning(): Promise<Buffer> {
    let first = Buffer.alloc(0);
    while (first.length < SNIFF_BYTES) {
      const piece = await this.#nextPiece();
      if (piece === undefined) break;
      first = Buffer.concat([first, piece]);
    }
    return first;
  }

  async #nextPiece(): Promise<Uint8Array | undefined> {
    const { signal, size, progress, where } = this.#options;
    const piece = await this.#input.next();
    if (signal?.aborted) throw cancelled(this.#options);
    if (piece === undefined) return undefined;
    this.#compressedBytes += piece.length;
    if (this.#compressedBytes > size) {
      throw new SkimError(
        "LAYER_CORRUPT",
        `${where}: the blob goes on behind the ${size} bytes that the manifest says; the registry or a proxy before it serves other bytes`,
      );
    }
    this.#blobSha512?.update(piece);
    progress?.advance(piece.length);
    return piece;
  }

  async #scan(scanner: ScannerHandle, piece: Uint8Array): Promise<void> {
    const { native, signal } = this.#options;
    native.scannerWrite(scanner, piece);
    let reading = this.#native(native.scannerRead(scanner, await this.#freeOutput()));
    for (;;) {
      const length = await reading;
      if (length === 0) return;
      const turn = this.#turn;
      const output = this.#outputs[turn]!.subarray(0, length);
      this.#turn = (turn + 1) % this.#outputs.length;
      const next = await this.#freeOutput();
      reading = this.#native(native.scannerRead(scanner, next));
      try {
        if (signal?.aborted) throw cancelled(this.#options);
        this.#takeOutput(output, turn);
      } catch (error) {
        // The scanner and its buffer are in use until it has settled.
        await reading.catch(() => {});
        throw error;
      }
    }
  }

  /** The buffer whose turn it is, when the sink is done with it. */
  async #freeOutput(): Promise<Buffer> {
    const written = this.#written[this.#turn];
    this.#written[this.#turn] = undefined;
    await written;
    return this.#outputs[this.#turn]!;
  }

  #takeOutput(output: Buffer, turn: number): void {
    const { settings, where, sink } = this.#options;
    const offset = this.#uncompressedBytes;
    this.#uncompressedBytes += output.length;
    if (this.#uncompressedBytes > settings.layerUncompressedBytesMax) {
      throw new SkimError(
        "LIMIT_EXCEEDED",
        `${where}: more than ${settings.layerUncompressedBytesMax} uncompressed bytes; ${raise("layerUncompressedBytesMax")}`,
      );
    }
    if (
      this.#uncompressedBytes > limits.layerRatioFreeBytes &&
      this.#uncompressedBytes > settings.layerRatioMax * this.#compressedBytes
    ) {
      throw new SkimError(
        "LIMIT_EXCEEDED",
        `${where}: ${this.#compressedBytes} bytes of it inflate to more than ${settings.layerRatioMax} times as many, as a decompression bomb's do; ${raise("layerRatioMax")}`,
      );
    }
    this.#diffSha512?.update(output);
    this.#reader.push(output);
    const written = sink?.write(output, offset, this.#entries);
    // It is awaited when the buffer's turn comes again, or at the end.
    written?.catch(() => {});
    this.#written[turn] = written;
  }

  #checkLength(): void {
    const { size, where } = this.#options;
    if (this.#compressedBytes === size) return;
    throw new SkimError(
      "LAYER_CORRUPT",
      `${where}: the blob ends after ${this.#compressedBytes} of ${size} bytes; try again, or push the image again`,
    );
  }

  #checkDigest(sha256: Uint8Array): void {
    const { digest, where } = this.#options;
    const found = this.#blobSha512
      ? `sha512:${this.#blobSha512.digest("hex")}`
      : `sha256:${Buffer.from(sha256).toString("hex")}`;
    if (found === digest) return;
    throw new SkimError(
      "DIGEST_MISMATCH",
      `${where}: its bytes have the digest ${found}, not ${digest}; the registry or a proxy before it serves other bytes`,
    );
  }

  #checkDiffId(sha256: Uint8Array): DiffId {
    const { diffId, where } = this.#options;
    const found = this.#diffSha512
      ? (`sha512:${this.#diffSha512.digest("hex")}` as DiffId)
      : (`sha256:${Buffer.from(sha256).toString("hex")}` as DiffId);
    if (diffId === undefined || found === diffId) return found;
    throw new SkimError(
      "DIFF_ID_MISMATCH",
      `${where}: its uncompressed bytes have the diffId ${found}, the image config says ${diffId}; build the image again`,
    );
  }

  /** Gives errors of the scanner a place and a code. */
  async #native<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (cause) {
      const code = systemErrorCode(cause) === "LAYER_CORRUPT" ? "LAYER_CORRUPT" : "INTERNAL";
      throw new SkimError(
        code,
        `${this.#options.where}: ${describeError(cause)}; try again, or push the image again`,
        {
          cause,
        },
      );
    }
  }
}

function cancelled({ where, signal }: IndexLayerOptions): SkimError {
  return new SkimError("CANCELLED", `${where}: indexing was cancelled`, { cause: signal?.reason });
}

function raise(setting: keyof LayerLimits): string {
  return `raise ${setting} (${settingEnvironment[setting]}) if the image is to be trusted`;
}
