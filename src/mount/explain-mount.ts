/** What is asked of one mount from outside: where its start went, and which files its slow reads were of. */
import { openArchive } from "../archive/archive-reader.js";
import { type FileOfSpan, filesOfSpans } from "../archive/span-files.js";
import { SkimError } from "../base/errors.js";
import { type NamedSpan, type ServerStart, type SlowWait, spanIndexOf } from "./mount-observation.js";
import { type MountRecord, MountRecords } from "./mount-record.js";
import { type AskServer, answerOf, askOwnServer, type MountStats, readStats } from "./mount-stats.js";
import { explainStart, type StartReport } from "./start-report.js";

export interface ExplainedStart extends StartReport {
  readonly id: string;
  readonly kind: MountRecord["kind"];
  readonly reference: string;
  readonly windowMs: number;
}

/** Throws NOT_FOUND where no server of that id answers. `windowMs`: see StartReportParts. */
export async function readStart(
  runDir: string,
  id: string,
  windowMs: number,
  ask: AskServer = askOwnServer(runDir),
): Promise<ExplainedStart> {
  const record = await new MountRecords(runDir).find(id);
  if (!record) throw new SkimError("NOT_FOUND", `no mount with id ${id}; skim ps lists what is mounted`);
  const start = (await answerOf(ask, id, "start")) as ServerStart;
  const report = explainStart({ start, marks: record.startMarks ?? {}, windowMs });
  return { id, kind: record.kind, reference: record.reference, windowMs, ...report };
}

/**
 * For each of `spans` a file that has most of its bytes, and how many others have some; undefined where there is none. Reads the archive of the
 * mount: the server is not asked. All undefined where the archive has been deleted meanwhile.
 */
async function filesOfMount(
  record: Pick<MountRecord, "archive">,
  spans: readonly NamedSpan[],
): Promise<(FileOfSpan | undefined)[]> {
  if (spans.length === 0) return [];
  const archive = await openArchive(record.archive).catch(() => undefined);
  if (!archive) return spans.map(() => undefined);
  try {
    const indexes = spans.map((span) => spanIndexOf(archive, span));
    const files = filesOfSpans(
      archive,
      indexes.filter((index) => index !== undefined),
    );
    return indexes.map((index) => (index === undefined ? undefined : files.get(index)));
  } finally {
    await archive.close();
  }
}

/** What a server says, with the files of its slow reads. */
export interface MountInFull extends MountStats {
  readonly slowest: readonly (SlowWait & { readonly file?: FileOfSpan })[];
  readonly waitingLongest: readonly (MountStats["waitingLongest"][number] & { readonly file?: FileOfSpan })[];
}

/** Throws NOT_FOUND where no server of that id answers. */
export async function readMountInFull(
  runDir: string,
  id: string,
  ask: AskServer = askOwnServer(runDir),
): Promise<MountInFull> {
  const stats = await readStats(ask, id);
  const record = await new MountRecords(runDir).find(id);
  const { slowest, waitingLongest } = stats;
  const files = record ? await filesOfMount(record, [...slowest, ...waitingLongest]) : [];
  const withFile = <Named extends NamedSpan>(named: Named, position: number) => {
    const file = files[position];
    return { ...named, ...(file ? { file } : {}) };
  };
  return {
    ...stats,
    slowest: slowest.map(withFile),
    waitingLongest: waitingLongest.map((each, position) => withFile(each, slowest.length + position)),
  };
}
