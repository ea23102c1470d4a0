/**
 * Where a start went (`skim stats ID --why`): the time from the beginning of the command to the last miss of the start, in parts that add up.
 *
 * ```
 * begun ── searching ── resolved ── opened ── ... ── overlaid ── started ── first read ─────────────── last miss of the window
 *   load      resolve     index         mount    overlay   bundle      runtime      program, and waits for spans
 * ```
 * Each moment belongs to one part. While readers wait for spans it is a part of waiting: that of what the fetches of these spans were busy with, in equal shares where
 * several wait. The rest is named by the marks it lies between; behind the first read that is `other`: the program's own time, in which nobody waited for skim.
 */
import type { StartMark, StartMoments } from "../base/start-marks.js";
import type { FinishedWait } from "../content/finished-waits.js";
import type { ServerStart } from "./mount-observation.js";

/** What lies before each mark, behind the one before it. */
const partBefore: Readonly<Record<StartMark | "firstRead" | "end", StartPart>> = {
  begun: "load",
  searching: "load",
  resolved: "resolve",
  opened: "index",
  launched: "mount",
  told: "mount",
  serverOpened: "mount",
  mounted: "mount",
  ready: "mount",
  overlaid: "overlay",
  started: "bundle",
  firstRead: "runtime",
  end: "other",
};

export const startParts = {
  load: "skim itself was loaded",
  resolve: "what the image's name means",
  index: "the archive was opened, and made where there was none",
  mount: "the mount server, until its mount answered",
  overlay: "the writable layer was made and mounted",
  bundle: "the bundle was written",
  runtime: "the runtime made the container, until its first read",
  unused: "nobody read anything yet",
  network: "readers waited for bytes from the registry",
  inflate: "readers waited for spans to be inflated and verified",
  queue: "readers waited for others: the link, a thread, a slow disk",
  cache: "readers waited for the disk cache, and for spans to be handed over",
  unfinished: "readers wait still",
  other: "nobody waited for skim: the program's own time",
} as const;

export type StartPart = keyof typeof startParts;

export interface StartReport {
  /** Moments, in milliseconds since the beginning. */
  readonly marks: readonly { readonly name: string; readonly ms: number }[];
  readonly totalMs: number;
  /** Add up to `totalMs`. */
  readonly parts: readonly { readonly name: StartPart; readonly ms: number }[];
  readonly waits: WaitSummary;
  /** False where more was waited for than is kept: then the last part of the start is not told. */
  readonly isComplete: boolean;
}

export interface WaitSummary {
  readonly count: number;
  readonly fromNetwork: number;
  /** All waits one after the other, and the time in which at least one reader waited. */
  readonly sumMs: number;
  readonly unionMs: number;
  /** Of the sum; with the rest (disk, handing over) they add up to it. */
  readonly networkMs: number;
  readonly inflateMs: number;
  readonly queueMs: number;
  readonly restMs: number;
}

export interface StartReportParts {
  readonly start: ServerStart;
  /** Of the process that has mounted. */
  readonly marks: StartMoments;
  /** How long the start is looked at, from when the container was started; where none was started for the mount, from its first read on. */
  readonly windowMs: number;
}

interface Interval {
  readonly startMs: number;
  readonly endMs: number;
  /** How an instant of it is shared out; the shares add up to 1. */
  readonly shares: Partial<Record<StartPart, number>>;
}

export function explainStart({ start, marks, windowMs }: StartReportParts): StartReport {
  // Whoever prepares a container reads from the mount too.
  const firstReadMs = start.readMoments.find((readMs) => readMs >= (marks.started ?? 0));
  const moments = orderedMoments({ ...start.marks, ...marks }, firstReadMs);
  const beginMs = moments[0]?.atMs ?? start.nowMs;
  const lastMarkMs = moments.at(-1)?.atMs ?? beginMs;
  const usedMs = marks.started ?? firstReadMs ?? lastMarkMs;
  const windowEndMs = Math.min(start.nowMs, usedMs + windowMs);
  const waits = start.waits.filter((wait) => wait.beganMs < windowEndMs && wait.beganMs >= beginMs);
  const unfinished = start.waitingSinceMs.filter((since) => since < windowEndMs);
  const ends = waits.map(({ beganMs, ms }) => beganMs + ms);
  if (unfinished.length > 0) ends.push(windowEndMs);
  const endMs = Math.max(
    Math.min(Math.max(...ends, beginMs), windowEndMs),
    Math.min(lastMarkMs, windowEndMs),
  );

  const isRun = marks.started !== undefined;
  const intervals = [
    ...waits.map(waitInterval),
    ...unfinished.map((since) => ({ startMs: since, endMs, shares: { unfinished: 1 } })),
  ];
  const parts = shareOut(beginMs, endMs, moments, intervals, isRun);
  return {
    marks: [
      ...moments.map(({ name, atMs }) => ({ name, ms: atMs - beginMs })),
      ...(ends.length > 0 ? [{ name: "lastMiss", ms: endMs - beginMs }] : []),
    ],
    totalMs: endMs - beginMs,
    parts,
    waits: summarize(waits, parts),
    isComplete: start.isComplete,
  };
}

function orderedMoments(marks: StartMoments, firstReadMs: number | undefined) {
  const moments = Object.entries(marks).map(([name, atMs]) => ({
    name: name as StartMark | "firstRead",
    atMs,
  }));
  if (firstReadMs !== undefined) moments.push({ name: "firstRead", atMs: firstReadMs });
  return moments.sort((a, b) => a.atMs - b.atMs);
}

function waitInterval({ beganMs, ms, networkMs, inflateMs, queueMs }: FinishedWait): Interval {
  const share = (part: number) => (ms > 0 ? part / ms : 0);
  const shares = { network: share(networkMs), inflate: share(inflateMs), queue: share(queueMs) };
  const rest = 1 - shares.network - shares.inflate - shares.queue;
  return { startMs: beganMs, endMs: beganMs + ms, shares: { ...shares, cache: rest } };
}

/** Goes through the time from `beginMs` to `endMs` from change to change. */
function shareOut(
  beginMs: number,
  endMs: number,
  moments: readonly { readonly name: StartMark | "firstRead"; readonly atMs: number }[],
  intervals: readonly Interval[],
  isRun: boolean,
): StartReport["parts"] {
  const spent = new Map<StartPart, number>(Object.keys(startParts).map((name) => [name as StartPart, 0]));
  const add = (part: StartPart, ms: number) => void spent.set(part, spent.get(part)! + ms);
  const inside = (ms: number) => Math.min(Math.max(ms, beginMs), endMs);
  const changes = [
    ...moments.map(({ atMs }) => inside(atMs)),
    ...intervals.flatMap(({ startMs, endMs: end }) => [inside(startMs), inside(end)]),
    endMs,
  ].sort((a, b) => a - b);
  const begins = intervals.toSorted((a, b) => a.startMs - b.startMs);
  const active = new Set<Interval>();
  let [next, at] = [0, beginMs];
  for (const change of changes) {
    if (change <= at) continue;
    for (let one = begins[next]; one && one.startMs <= at; one = begins[++next]) active.add(one);
    for (const one of active) if (one.endMs <= at) active.delete(one);
    const ms = change - at;
    for (const { shares } of active)
      for (const [part, share] of Object.entries(shares)) add(part as StartPart, (ms * share) / active.size);
    if (active.size === 0) add(partAt(at, moments, isRun), ms);
    at = change;
  }
  return [...spent].map(([name, ms]) => ({ name, ms }));
}

/** The part that the instants behind `atMs` belong to by the marks alone. */
function partAt(
  atMs: number,
  moments: readonly { readonly name: StartMark | "firstRead"; readonly atMs: number }[],
  isRun: boolean,
): StartPart {
  const next = moments.find((moment) => moment.atMs > atMs)?.name ?? "end";
  return next === "firstRead" && !isRun ? "unused" : partBefore[next];
}

function summarize(waits: readonly FinishedWait[], parts: StartReport["parts"]): WaitSummary {
  const sum = (of: (wait: FinishedWait) => number) => waits.reduce((total, wait) => total + of(wait), 0);
  const waiting: readonly StartPart[] = ["network", "inflate", "queue", "cache", "unfinished"];
  const [sumMs, networkMs, inflateMs, queueMs] = [
    sum(({ ms }) => ms),
    sum((wait) => wait.networkMs),
    sum((wait) => wait.inflateMs),
    sum((wait) => wait.queueMs),
  ];
  return {
    count: waits.length,
    fromNetwork: waits.filter(({ source }) => source === "network").length,
    sumMs,
    unionMs: parts.filter(({ name }) => waiting.includes(name)).reduce((total, { ms }) => total + ms, 0),
    networkMs,
    inflateMs,
    queueMs,
    restMs: sumMs - networkMs - inflateMs - queueMs,
  };
}
