/**
 * A start profile: which bytes of an image's layers one command needs when it starts, in the order of need, as recorded. Replayed before and
 * while the container starts, it turns misses that come one after the other into a few requests side by side.
 *
 * Bytes are named by layer digest and uncompressed range, not by span, so that a profile fits whatever span size an image was indexed
 * with, and, exported, the next version of the image as far as that shares layers.
 */

import type { Archive } from "../archive/archive.js";
import { describeError, SkimError } from "../base/errors.js";
import { JsonObject } from "../base/json-object.js";
import { type Digest, isDigest } from "../image/digest.js";

export const profileVersion = 1;
/** Ranges of one profile: at the smallest span size, 1.6 GB. */
const readsMax = 25_000;
/** Of one command line; what a start needs does not depend on more. */
const wordsMax = 4096;
/** Commands of one image. The one that was recorded longest ago makes room. */
const commandsMax = 64;
/** A range that fewer runs have needed (of those that were recorded) was somebody's accident: it would cost every start its bytes. */
const replayedShareMin = 0.25;
/** How much the last run counts where more were recorded than anybody remembers: images' caches, and what is in them, change. */
const runsMax = 20;
/** A range that one run has read is forgotten after some 45 others that have not. */
const forgottenHits = 0.1;

export interface ProfileRead {
  readonly layer: Digest;
  /** Of the uncompressed layer, in bytes. */
  readonly offset: number;
  readonly length: number;
  /** Since the mount began; mean of the runs that read it. */
  readonly ms: number;
  /** Runs that read it; those of long ago count less than one. */
  readonly hits: number;
}

export interface StartProfile {
  /** argv of the container's process. */
  readonly command: readonly string[];
  readonly runs: number;
  /** ISO 8601, UTC. */
  readonly recordedAt: string;
  /** In the order of need. */
  readonly reads: readonly ProfileRead[];
}

/** All profiles of an image, as kept and exported. */
export interface ImageProfiles {
  readonly profileVersion: typeof profileVersion;
  /** Of the image they were recorded with. */
  readonly manifestDigest: Digest;
  readonly profiles: readonly StartProfile[];
}

/** A span that a start touched, and when. */
export interface TouchedSpan {
  readonly span: number;
  /** Since the mount began. */
  readonly ms: number;
}

export interface ProfiledArchive extends Pick<Archive, "span" | "spanIndexAt"> {
  readonly layers: readonly Pick<
    Archive["layers"][number],
    "digest" | "uncompressedBytes" | "spanFirst" | "spanCount"
  >[];
}

/** Parses what `JSON.stringify` of ImageProfiles gives. Throws USAGE naming `where` and what does not fit. */
export function parseProfiles(text: string, where: string): ImageProfiles {
  try {
    return profilesIn(JSON.parse(text));
  } catch (cause) {
    throw new SkimError(
      "USAGE",
      `${where} is no start profile of skim: ${describeError(cause)}; make one with: skim profile export`,
      { cause },
    );
  }
}

function profilesIn(json: unknown): ImageProfiles {
  const file = new JsonObject(json);
  const version = file.integer("profileVersion", 1);
  if (version !== profileVersion) throw new Error(`profileVersion is ${version}, not ${profileVersion}`);
  return {
    profileVersion,
    manifestDigest: file.custom("manifestDigest", isDigest, "not a digest"),
    profiles: file.objects("profiles", commandsMax).map((profile) => ({
      command: profile.texts("command", wordsMax),
      runs: profile.integer("runs", 1),
      recordedAt: new Date(profile.custom("recordedAt", isTime, "not a time")).toISOString(),
      reads: profile.objects("reads", readsMax).map((read) => ({
        layer: read.custom("layer", isDigest, "not a digest"),
        offset: read.integer("offset", 0),
        length: read.integer("length", 1),
        ms: read.number("ms", 0),
        hits: read.number("hits", Number.MIN_VALUE),
      })),
    })),
  };
}

function isTime(value: unknown): value is string {
  return typeof value === "string" && !Number.isNaN(Date.parse(value));
}

/** What one run has touched, as a profile of its own. */
export function profileOf(
  archive: ProfiledArchive,
  command: readonly string[],
  touched: readonly TouchedSpan[],
  recordedAt: Date,
): StartProfile {
  const reads = touched.slice(0, readsMax).map(({ span, ms }) => {
    const { digest: layer } = archive.layers.find(
      ({ spanFirst, spanCount }) => span >= spanFirst && span < spanFirst + spanCount,
    )!;
    const { uncompressedOffset, uncompressedLength } = archive.span(span);
    return { layer, offset: uncompressedOffset, length: uncompressedLength, ms, hits: 1 };
  });
  return {
    command: command.slice(0, wordsMax),
    runs: 1,
    recordedAt: recordedAt.toISOString(),
    reads: inOrder(reads),
  };
}

/** Both together: what either has read, with the mean of their times. The command is that of `before`. */
export function mergeProfiles(before: StartProfile, after: StartProfile): StartProfile {
  // What was recorded long ago fades: the newest run counts at least one in `runsMax`.
  const fading = Math.min(1, (runsMax - 1) / before.runs);
  const reads = new Map<string, ProfileRead>();
  const add = (read: ProfileRead) => {
    const key = `${read.layer} ${read.offset} ${read.length}`;
    const known = reads.get(key);
    const hits = (known?.hits ?? 0) + read.hits;
    const ms = known ? (known.ms * known.hits + read.ms * read.hits) / hits : read.ms;
    reads.set(key, { ...read, hits, ms: Math.round(ms * 10) / 10 });
  };
  for (const read of before.reads) {
    const hits = Math.round(read.hits * fading * 100) / 100;
    if (hits > forgottenHits) add({ ...read, hits });
  }
  for (const read of after.reads) add(read);
  return {
    command: before.command,
    runs: Math.round(before.runs * fading) + after.runs,
    recordedAt: before.recordedAt > after.recordedAt ? before.recordedAt : after.recordedAt,
    reads: inOrder([...reads.values()]).slice(0, readsMax),
  };
}

/** `profiles` with `added` merged into those of the same command. */
export function addProfiles(profiles: ImageProfiles, added: readonly StartProfile[]): ImageProfiles {
  const merged = [...profiles.profiles];
  for (const profile of added) {
    const at = merged.findIndex(({ command }) => isSameCommand(command, profile.command));
    if (at < 0) merged.push(profile);
    else merged[at] = mergeProfiles(merged[at]!, profile);
  }
  merged.sort((a, b) => (a.recordedAt < b.recordedAt ? 1 : -1));
  return { ...profiles, profiles: merged.slice(0, commandsMax) };
}

/**
 * The profile for `command`: its own, else that of the command with the longest beginning in common (the same program at least), since most of what
 * a start needs is the program's. Undefined: not known what will run; then the one that was recorded most often.
 */
export function chooseProfile(
  { profiles }: ImageProfiles,
  command: readonly string[] | undefined,
): StartProfile | undefined {
  if (!command) return profiles.toSorted((a, b) => b.runs - a.runs)[0];
  const ranked = profiles
    .map((profile) => ({ profile, common: commonLength(profile.command, command) }))
    .filter(({ profile, common }) => common > 0 || isSameCommand(profile.command, command))
    .sort((a, b) => b.common - a.common || a.profile.command.length - b.profile.command.length);
  return ranked[0]?.profile;
}

/** The spans to fetch, in the order of need. What the archive has no such layer for is passed over. */
export function spansOf(profile: StartProfile, archive: ProfiledArchive): number[] {
  const hitsMin = profile.runs * replayedShareMin;
  const positions = new Map<Digest, number>();
  for (const [position, { digest: layer, spanCount }] of archive.layers.entries())
    if (spanCount > 0) positions.set(layer, position);
  const spans = new Set<number>();
  for (const { layer, offset, length, hits } of profile.reads) {
    const position = positions.get(layer);
    if (position === undefined || hits < hitsMin) continue;
    const { uncompressedBytes } = archive.layers[position]!;
    if (offset >= uncompressedBytes) continue;
    const last = archive.spanIndexAt(position, Math.min(offset + length, uncompressedBytes) - 1);
    for (let span = archive.spanIndexAt(position, offset); span <= last; span++) spans.add(span);
  }
  return [...spans];
}

function inOrder(reads: readonly ProfileRead[]): ProfileRead[] {
  return reads.toSorted((a, b) => a.ms - b.ms);
}

export function isSameCommand(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && commonLength(a, b) === a.length;
}

function commonLength(a: readonly string[], b: readonly string[]): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}
