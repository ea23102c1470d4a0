/** How much of the image a start waits for. */
import type { Archive } from "../archive/archive.js";
import { textOf } from "../base/byte-string.js";
import { isSameCommand } from "../profile/start-profile.js";
import { findStartSet } from "../program/start-spans.js";
import { type Check, type Finding, ok, warn } from "./check.js";
import { megabytes } from "./layer-checks.js";
import type { Subject } from "./subject.js";

export const lazyChecks: readonly Check[] = [
  {
    id: "first-exec",
    asks: "how many bytes of the image are fetched before the program runs (by a recorded profile, or by what it loads)",
    fix: "record a profile (skim profile record), or compress the layers so that they can be read in pieces",
    run: firstExec,
  },
];

const MB = 1e6;
/** A start that takes so much is no lazier than a pull. */
const shareMax = 0.7;
const smallBytes = 50 * MB;

async function firstExec(subject: Subject): Promise<Finding[]> {
  const { archive } = subject;
  const known = await spansToFirstExec(subject);
  const imageBytes = archive.layers.reduce((sum, layer) => sum + layer.compressedBytes, 0);
  if (!known) return [];
  const bytes = fetchedBytes(archive, known.spans);
  const share = imageBytes === 0 ? 0 : bytes / imageBytes;
  const text = `${megabytes(bytes)} of ${megabytes(imageBytes)} (${(100 * share).toFixed(1)} %) are fetched to the first exec, by ${known.by}`;
  if (share <= shareMax || imageBytes <= smallBytes) return [ok(text)];
  return [
    warn(
      archive.identity.reference,
      text,
      "compress the layers so that they can be read in pieces, or unpack the image (skim unpack)",
    ),
  ];
}

async function spansToFirstExec(
  subject: Subject,
): Promise<{ readonly spans: Iterable<number>; readonly by: string } | undefined> {
  const { archive, config, command, profiledSpans } = subject;
  if (!command) return undefined;
  if (profiledSpans && profiledSpans.length > 0) return { spans: profiledSpans, by: "a recorded start" };
  const args = command.args.map((arg) => textOf(arg) ?? "");
  const isOwn = isSameCommand(args, [...config.entrypoint, ...config.cmd]);
  if (isOwn && archive.startSpans && archive.startSpans.length > 0)
    return { spans: archive.startSpans, by: "what the command loads" };
  if (!subject.start.deps) return undefined;
  const env = command.env.map((one) => textOf(one) ?? "");
  const start = { args, env, workingDir: textOf(command.directory) ?? "/" };
  const { spans } = await findStartSet(archive, subject.imagePrograms, start);
  return spans.length > 0 ? { spans, by: "what the command loads" } : undefined;
}

/** Compressed bytes of all that has to be decoded: a span that is no restart point needs those before it. */
function fetchedBytes(archive: Archive, spans: Iterable<number>): number {
  const needed = new Set<number>();
  for (const span of spans) {
    // Of one that is among them, those before it are too.
    for (let at = span; at >= archive.restartSpan(span) && !needed.has(at); at--) needed.add(at);
  }
  let bytes = 0;
  for (const span of needed) {
    const { compressedStart, compressedEnd } = archive.span(span);
    bytes += compressedEnd - compressedStart;
  }
  return bytes;
}
