/** What a mount server says of itself besides plain counts: waits, what is slowest, what is in flight, mirrors, evictions; and, when asked, of its start. */
import type { Archive } from "../archive/archive.js";
import type { HistogramSnapshot } from "../base/histogram.js";
import { monotonicMs, wallClockOf } from "../base/monotonic-clock.js";
import type { StartMarks, StartMoments } from "../base/start-marks.js";
import type { Content } from "../content/content.js";
import { type ContentArchive, compressedBytesOf, layerOfSpan } from "../content/content-archive.js";
import type { FinishedWait, FirstWaits, WaitSource } from "../content/finished-waits.js";
import type { Phase } from "../content/phase-clock.js";
import type { FetchInFlight } from "../content/span-fetcher.js";
import type { Digest } from "../image/digest.js";
import type { ImageSource, MirrorState } from "../registry/image-source.js";
import type { EvictionCounts } from "./disk-cache.js";

/** A span, for who has the archive and who has not. Counted from 0 within its layer. */
export interface NamedSpan {
  readonly layer: Digest;
  readonly span: number;
}

export interface SlowWait extends NamedSpan {
  /** When it began, of the wall clock. */
  readonly at: string;
  readonly source: FinishedWait["source"];
  readonly bytes: number;
  readonly compressedBytes: number;
  readonly ms: number;
  /** With what is not named they make up `ms`: opening cache files, reading from disk, handing over. */
  readonly networkMs: number;
  readonly inflateMs: number;
  readonly queueMs: number;
}

export interface MountObservation {
  readonly manifestDigest: Digest;
  /** When this server began to serve the mount. */
  readonly servingSince: string;
  readonly servingMs: number;
  /** The same moment, of monotonicMs: with the id it names this server of the mount among those before and after it. */
  readonly servingSinceMs: number;
  /** From what it was told until the kernel had the mount. */
  readonly readyMs: number;
  /** Seconds that readers waited for spans that were not at hand. */
  readonly landed: Readonly<Record<WaitSource, HistogramSnapshot>>;
  readonly phases: Readonly<Record<Phase, HistogramSnapshot>>;
  readonly unserved: number;
  /** Spans that readers wait for now: how many, and the oldest. */
  readonly waiting: number;
  readonly waitingLongest: readonly (NamedSpan & { readonly ageMs: number })[];
  readonly slowest: readonly SlowWait[];
  readonly inFlight: readonly FetchInFlight[];
  readonly mirrors: readonly MirrorState[];
  /** By this process, whatever image it was of. */
  readonly evictions: EvictionCounts;
}

/** What `skim stats --why` is made of, as the server tells it. */
export interface ServerStart extends FirstWaits {
  readonly marks: StartMoments;
  readonly nowMs: number;
}

export interface ObservedParts {
  readonly archive: Archive;
  readonly content: Content;
  readonly source: ImageSource;
  readonly marks: StartMarks;
  readonly evictions: () => EvictionCounts;
}

export function observeMount(parts: ObservedParts): MountObservation {
  const { archive, content, source, marks } = parts;
  const { told = 0, mounted = 0 } = marks.snapshot();
  const { slowest, waitingLongest, ...report } = content.waits();
  return {
    manifestDigest: archive.identity.manifestDigest,
    servingSince: wallClockOf(mounted).toISOString(),
    servingMs: monotonicMs() - mounted,
    servingSinceMs: mounted,
    readyMs: mounted - told,
    ...report,
    waitingLongest: waitingLongest.map(({ span, ageMs }) => ({ ...nameSpan(archive, span), ageMs })),
    slowest: slowest.map((wait) => describeWait(archive, wait)),
    inFlight: content.inFlight(),
    mirrors: source.mirrors?.() ?? [],
    evictions: parts.evictions(),
  };
}

export function observeStart({ content, marks }: Pick<ObservedParts, "content" | "marks">): ServerStart {
  return { ...content.firstWaits(), marks: marks.snapshot(), nowMs: monotonicMs() };
}

function describeWait(archive: ContentArchive, { span, beganMs, ...wait }: FinishedWait): SlowWait {
  return {
    ...nameSpan(archive, span),
    at: wallClockOf(beganMs).toISOString(),
    bytes: archive.span(span).uncompressedLength,
    compressedBytes: compressedBytesOf(archive, span),
    ...wait,
  };
}

function nameSpan(archive: ContentArchive, span: number): NamedSpan {
  const layer = layerOfSpan(archive, span);
  return { layer: layer.digest, span: span - layer.spanFirst };
}

/** The index in the archive of a span that is named so; undefined where the archive has no such layer. */
export function spanIndexOf({ layers }: Pick<Archive, "layers">, named: NamedSpan): number | undefined {
  const layer = layers.find(({ digest }) => digest === named.layer);
  return layer && layer.spanFirst + named.span;
}
