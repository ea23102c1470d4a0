/** What `skim stats ID --why` shows people. */
import type { ExplainedStart } from "../mount/explain-mount.js";
import { startParts } from "../mount/start-report.js";
import { formatDuration, formatPercent, formatTable } from "./format.js";

const markMeanings: Readonly<Record<string, string>> = {
  begun: "the command began",
  searching: "skim is loaded, and looks for the image",
  resolved: "the image's name is resolved",
  opened: "the archive is open",
  launched: "the mount server is told what to serve",
  told: "it has heard it",
  serverOpened: "it has opened archive, cache and source",
  mounted: "FUSE_INIT is answered",
  ready: "the mount answers",
  overlaid: "the overlay is mounted",
  started: "the runtime is started",
  firstRead: "first read of the image",
  lastMiss: "the last wait is over",
};

export function startReportText(start: ExplainedStart): string {
  const { marks, parts, totalMs, waits } = start;
  const isUsed = marks.some(({ name }) => name === "firstRead");
  const end = isUsed
    ? `until the last wait in the first ${formatDuration(start.windowMs)} of its use`
    : "until it was ready; nobody has read anything yet";
  const shown = parts.filter(({ ms }) => ms > 0);
  const lines = [
    `${start.id} (${start.reference}): ${formatDuration(totalMs)} ${end}`,
    "",
    formatTable(
      marks.map(({ name, ms }) => [`${ms.toFixed(1)} ms`, markMeanings[name] ?? name]),
      [0],
    ),
    "",
    formatTable(
      [
        ...shown.map(({ name, ms }) => [
          name,
          `${ms.toFixed(1)} ms`,
          formatPercent(ms / totalMs),
          startParts[name],
        ]),
        ["total", `${totalMs.toFixed(1)} ms`, "", ""],
      ],
      [1, 2],
    ),
    "",
    waitsLine(waits),
  ];
  if (!start.isComplete) lines.push("more was waited for than is kept: the end of the start is not told");
  return lines.join("\n");
}

function waitsLine(waits: ExplainedStart["waits"]): string {
  if (waits.count === 0) return "waits: none; everything was at hand";
  const { sumMs, unionMs, networkMs, inflateMs, queueMs, restMs } = waits;
  const of = (ms: number) => formatPercent(sumMs > 0 ? ms / sumMs : undefined);
  return [
    `waits: ${waits.count}, of these ${waits.fromNetwork} misses; ${formatDuration(sumMs)} in sum, ${formatDuration(unionMs)} with somebody waiting`,
    `of the sum: network ${of(networkMs)}, inflate ${of(inflateMs)}, queue ${of(queueMs)}, other ${of(restMs)}`,
  ].join("\n");
}
