/**
 * `skim verify`: are the spans that are on disk what they should be, and can the others be had? Reads all of a cached image once; with
 * `fetch` all of the rest from the registry, in long requests, one after the other: it is no hurry, and readers come first.
 */
import { isSkimError, type SkimError } from "../base/errors.js";
import { noProgress, type Progress } from "../base/progress.js";
import type { Digest } from "../image/digest.js";
import { CallScope } from "../registry/call-scope.js";
import { type SpanReaderOptions, serveMissing } from "./span-reader.js";

/** Uncompressed bytes that are asked for at a time: about one request of full length for most layers. */
const fetchBytesMax = 16 * 1024 * 1024;

export interface VerifyOptions {
  /** Spans that are not in the disk cache are fetched, verified and cached. Default: they are counted. */
  readonly fetch?: boolean;
  readonly signal?: AbortSignal;
  /** One task a layer, in uncompressed bytes. */
  readonly progress?: Progress;
}

export interface VerifyReport {
  /** Spans of all layers; a layer that the image lists twice counts once. */
  readonly spans: number;
  /** On disk, and good. */
  readonly intact: number;
  /** On disk with other bytes than the archive names: dropped. They count again under what follows. */
  readonly damaged: number;
  /** Fetched, and good. */
  readonly fetched: number;
  /** Neither on disk nor fetched. */
  readonly missing: number;
  /** Spans that the registry does not have the right bytes for. */
  readonly failures: readonly VerifyFailure[];
}

export interface VerifyFailure {
  readonly layer: Digest;
  /** Counted from 0 within the layer. */
  readonly span: number;
  readonly error: SkimError;
}

/** Throws CANCELLED, and what the source throws where the registry cannot be reached. */
export async function verifySpans(reader: SpanReaderOptions, options: VerifyOptions): Promise<VerifyReport> {
  const { fetch = false, signal, progress = noProgress } = options;
  const { archive, store } = reader;
  const report = { spans: 0, intact: 0, damaged: 0, fetched: 0, missing: 0, failures: [] as VerifyFailure[] };
  const scope = new CallScope("verifying an image", signal);
  const verified = new Set<number>();
  try {
    for (const [position, layer] of archive.layers.entries()) {
      if (layer.spanCount === 0 || verified.has(layer.spanFirst)) continue;
      verified.add(layer.spanFirst);
      const task = progress.start(layer.digest, layer.uncompressedBytes);
      const end = layer.spanFirst + layer.spanCount;
      let batch: number[] = [];
      let batchBytes = 0;
      for (let span = layer.spanFirst; span < end; span++) {
        scope.check();
        const length = archive.span(span).uncompressedLength;
        const state = await store.check(layer, span);
        report.spans++;
        if (state === "damaged") report.damaged++;
        if (state === "intact") report.intact++;
        else if (fetch) batch.push(span);
        else report.missing++;
        if (state === "intact" || !fetch) task.advance(length);
        else batchBytes += length;
        if (batch.length > 0 && (batchBytes >= fetchBytesMax || span === end - 1)) {
          const failures = await fetchSpans(position, batch, scope, reader);
          report.fetched += batch.length - failures.length;
          report.failures.push(...failures);
          task.advance(batchBytes);
          batch = [];
          batchBytes = 0;
        }
      }
      task.done();
    }
  } finally {
    scope.end();
  }
  return report;
}

/** Fetches spans of the layer at `position`. Returns those that the registry has other bytes for. */
async function fetchSpans(
  position: number,
  spans: readonly number[],
  scope: CallScope,
  reader: SpanReaderOptions,
): Promise<VerifyFailure[]> {
  const { spanFirst, digest } = reader.archive.layers[position]!;
  const wanted = spans.map((span) => ({ layer: position, span, spanOffset: 0, into: new Uint8Array(0) }));
  try {
    await serveMissing(wanted, scope, reader);
    return [];
  } catch (error) {
    if (!isSkimError(error, "DIGEST_MISMATCH")) throw error;
    if (spans.length === 1) return [{ layer: digest, span: spans[0]! - spanFirst, error }];
  }
  // One of them, but which?
  const failures: VerifyFailure[] = [];
  for (const span of spans) failures.push(...(await fetchSpans(position, [span], scope, reader)));
  return failures;
}
