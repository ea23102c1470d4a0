/** What will go wrong when an image starts, found out without pulling it: opens image and content, and has src/doctor look. */
import { isSkimError, type SkimError } from "../base/errors.js";
import { silentLogger } from "../base/logger.js";
import { pickDefined } from "../base/pick-defined.js";
import { resolveSettings } from "../base/settings.js";
import { type Examination, examinationOf, runChecks } from "../doctor/examine.js";
import { type ExaminedHost, readExaminedHost } from "../doctor/examined-host.js";
import { type ExaminedStart, Subject } from "../doctor/subject.js";
import { isFaultOfImage, unindexedFindings } from "../doctor/unindexed.js";
import { parseReference, referenceText } from "../image/reference.js";
import { readProfiles } from "../profile/profile-store.js";
import { isSameCommand, spansOf } from "../profile/start-profile.js";
import { openImageSource } from "../registry/open-image-source.js";
import { readHostFacts } from "../runtime/host-facts.js";
import { commandLine } from "../runtime/oci-spec.js";
import { openImageContent } from "./image-content.js";
import { type OpenedImage, type OpenImageOptions, openImageOrArchive } from "./image-or-archive.js";

export interface ExamineImageOptions extends OpenImageOptions, ExaminedStart {
  /** An archive, or the name of an image, which is indexed first if need be. */
  readonly image: string;
  /** Where the layers are served from; default: where the archive says. */
  readonly source?: string;
  /** Ids of the checks to make; default: all. */
  readonly checks?: readonly string[];
  /** Compressed bytes that may be fetched to find out; default 64 MiB. What lies beyond is not judged. */
  readonly fetchBytesMax?: number;
}

/** Of one read: who asks what would go wrong does not wait as long as who is running. */
const readDeadlineMsMax = 10_000;

/**
 * Makes all checks. What is wrong with the image is in the result, also where it cannot be indexed. Throws what opening an image and reading
 * its bytes throw: then nothing can be said.
 */
export async function examineImage(options: ExamineImageOptions): Promise<Examination> {
  const started = performance.now();
  const host = await examinedHost();
  let opened: OpenedImage;
  try {
    opened = await openImageOrArchive(options.image, options);
  } catch (error) {
    if (!isFaultOfImage(error)) throw error;
    return await examineUnindexed(options, error, host, started);
  }
  try {
    return await examineOpened(
      { ...opened, ...pickDefined({ source: options.source }) },
      options,
      host,
      started,
    );
  } finally {
    await opened.archive.close();
  }
}

async function examinedHost(): Promise<ExaminedHost> {
  return await readExaminedHost((await readHostFacts()).nameFiles);
}

async function examineOpened(
  { archive, source }: Pick<OpenedImage, "archive" | "source">,
  options: ExamineImageOptions,
  host: ExaminedHost,
  started: number,
): Promise<Examination> {
  const settings = resolveSettings(options.settings);
  const logger = options.logger ?? silentLogger;
  const { content, close } = await openImageContent({
    ...{ archive, source, logger, readAhead: false },
    settings: { ...settings, readDeadlineMs: Math.min(settings.readDeadlineMs, readDeadlineMsMax) },
  });
  try {
    const subject = await Subject.open({
      archive,
      // Nobody's who uses the image: read-ahead would fetch more than is looked at.
      content: { read: (request) => content.read({ ...request, aside: true }) },
      host,
      start: options,
      ...pickDefined({
        fetchBytesMax: options.fetchBytesMax,
        signal: options.signal,
        profiledSpans: recordedSpans(archive, settings.cacheDir, options),
      }),
    });
    const checks = await runChecks(subject, options.checks && new Set(options.checks));
    options.signal?.throwIfAborted();
    const fetchRequests = content.counters.get("fetch_requests_total");
    const fetchedBytes = content.counters.get("fetched_bytes_total");
    return examinationOf(archive.identity, { image: archive.config.platform, host: host.platform }, checks, {
      ...{ bytesRead: subject.bytesRead, fetchRequests, fetchedBytes },
      durationMs: Math.round(performance.now() - started),
    });
  } finally {
    await close();
  }
}

/** Of this very command: another one's says little of how much this one needs. */
function recordedSpans(
  archive: OpenedImage["archive"],
  cacheDir: string,
  { args, entrypoint }: ExamineImageOptions,
): readonly number[] | undefined {
  try {
    const command = commandLine({ config: archive.config, ...pickDefined({ args, entrypoint }) });
    const { profiles } = readProfiles(cacheDir, archive.identity.manifestDigest);
    const profile = profiles.find((one) => isSameCommand(one.command, command));
    return profile && spansOf(profile, archive);
  } catch (error) {
    // A check says that there is no command.
    if (isSkimError(error)) return undefined;
    throw error;
  }
}

/** Rejects with `error` where not even the manifest can be had, or is what is wrong. */
async function examineUnindexed(
  options: ExamineImageOptions,
  error: SkimError,
  host: ExaminedHost,
  started: number,
): Promise<Examination> {
  const reference = parseReference(options.image);
  const settings = resolveSettings(options.settings);
  const source = await openImageSource(reference, { settings, logger: options.logger ?? silentLogger });
  try {
    const { platform, signal } = options;
    const image = await source.resolve(pickDefined({ platform, signal })).catch((reason: unknown) => {
      if (isFaultOfImage(reason)) return undefined;
      throw reason;
    });
    const checks = unindexedFindings(error, image?.layers ?? []);
    return examinationOf(
      {
        reference: referenceText(reference),
        manifestDigest: image?.manifestDigest ?? reference.digest,
      },
      { image: image?.platform, host: host.platform },
      checks,
      {
        ...{ bytesRead: 0, fetchRequests: 0, fetchedBytes: 0 },
        durationMs: Math.round(performance.now() - started),
      },
    );
  } finally {
    await source.close();
  }
}
