/**
 * What a mount fetches before it is read: a start profile or the archive's start set at once, and all the rest while nothing else is to be done. Also
 * records profiles.
 */
import type { Archive } from "../archive/archive.js";
import { describeError, isSkimError, SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { Presence } from "../content/background-fill.js";
import type { Content } from "../content/content.js";
import { addToProfiles, readProfiles } from "../profile/profile-store.js";
import { chooseProfile, profileOf, spansOf } from "../profile/start-profile.js";
import { StartRecorder } from "../profile/start-recorder.js";
import { commandLine } from "../runtime/oci-spec.js";

export const prefetchModes = ["auto", "start-set", "none"] as const;

/**
 * - auto: the recorded start profile, where there is none the start set of the archive.
 * - start-set: the start set, whatever was recorded.
 * - none: nothing, and no read-ahead either; only what is read is fetched.
 */
export type PrefetchMode = (typeof prefetchModes)[number];

/** "idle": while nobody reads. A number: always, that many compressed bytes a second. Either gives way to readers. */
export type BackgroundFillMode = "off" | "idle" | number;

export interface FetchAheadOptions {
  /** Default: auto. */
  readonly prefetch?: PrefetchMode;
  /** Default: off. */
  readonly backgroundFill?: BackgroundFillMode;
  /** Notes what is read from now on, and keeps it when the mount ends, at the latest after a minute. */
  readonly recordProfile?: boolean;
  /** What will run, as given to buildRuntimeSpec. Undefined: not known. */
  readonly command?: { readonly args?: readonly string[]; readonly entrypoint?: readonly string[] };
}

/** A start that takes longer is none: what a service reads afterwards depends on its work. */
const recordingMs = 60_000;

export interface FetchAhead {
  /** Begins to fill, where that was asked for; to be called when the mount is ready. */
  fill(): void;
  readonly replayed: { readonly from: "profile" | "start-set" | "nothing"; readonly spans: number };
  /** Ends prefetching and filling, and keeps what was recorded. */
  close(): void;
}

export interface FetchAheadParts {
  readonly archive: Archive;
  readonly content: Content;
  readonly cacheDir: string;
  readonly logger: Logger;
  readonly options: FetchAheadOptions;
}

/** Begins at once with what a start is known to need. */
export function startFetchAhead({
  archive,
  content,
  cacheDir,
  logger,
  options,
}: FetchAheadParts): FetchAhead {
  const { manifestDigest } = archive.identity;
  const ended = new AbortController();
  const command = commandOf(archive, options);
  const recorder = options.recordProfile
    ? new StartRecorder({
        onTouch: (listener) => content.onTouch(listener),
        durationMs: recordingMs,
        onFinished(touched) {
          if (touched.length === 0) return;
          try {
            addToProfiles(cacheDir, manifestDigest, [profileOf(archive, command ?? [], touched, new Date())]);
            logger.info({ command, spans: touched.length }, "start profile recorded");
          } catch (error) {
            logger.error({ error: describeError(error) }, "start profile not kept");
          }
        },
      })
    : undefined;

  const { from, spans } = foretold(archive, cacheDir, command, options.prefetch ?? "auto");
  if (spans.length > 0) {
    const begunAt = performance.now();
    void content.prefetch(spans, ended.signal).then(({ requests, spans: fetched, compressedBytes }) => {
      const ms = Math.round(performance.now() - begunAt);
      logger.info(
        { from, spans: spans.length, fetched, compressedBytes, requests, ms },
        "prefetched for the start",
      );
    });
  }
  return {
    replayed: { from, spans: spans.length },
    fill: () => void fillInBackground(content, options.backgroundFill ?? "off", ended.signal, logger),
    close() {
      ended.abort(new SkimError("CANCELLED", "fetching ahead: the mount has ended"));
      recorder?.finish();
    },
  };
}

/** Undefined where it is not known what will run. */
function commandOf(archive: Archive, { command }: FetchAheadOptions): readonly string[] | undefined {
  try {
    return command && commandLine({ config: archive.config, ...command });
  } catch (error) {
    // Whoever runs it is told.
    if (isSkimError(error)) return undefined;
    throw error;
  }
}

function foretold(
  archive: Archive,
  cacheDir: string,
  command: readonly string[] | undefined,
  mode: PrefetchMode,
): { from: FetchAhead["replayed"]["from"]; spans: readonly number[] } {
  if (mode === "auto") {
    const profile = chooseProfile(readProfiles(cacheDir, archive.identity.manifestDigest), command);
    const spans = profile ? spansOf(profile, archive) : [];
    if (spans.length > 0) return { from: "profile", spans };
  }
  return { from: "nothing", spans: [] };
}

async function fillInBackground(
  content: Content,
  mode: BackgroundFillMode,
  signal: AbortSignal,
  logger: Logger,
): Promise<void> {
  if (mode === "off") return;
  try {
    const how = mode === "idle" ? { idle: true } : { bytesPerSecond: mode };
    const presence = await content.fill({ urgency: "fill", persist: true, signal, ...how });
    if (isComplete(presence)) logger.info(presence, "image is complete: the registry is not needed any more");
  } catch (error) {
    logger.warn({ error: describeError(error) }, "not filled in the background");
  }
}

/** True where all of an image is on disk. */
export function isComplete({ spans, presentSpans }: Presence): boolean {
  return presentSpans === spans;
}
