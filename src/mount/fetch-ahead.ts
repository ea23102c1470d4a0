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
import { chooseProfile, isSameCommand, profileOf, spansOf } from "../profile/start-profile.js";
import { StartRecorder } from "../profile/start-recorder.js";
import { commandLine } from "../runtime/oci-spec.js";
import { startCommand } from "./start-command.js";

/**
 * - auto: the recorded start profile, where there is none the start set of the archive.
 * - start-set: the start set, whatever was recorded.
 * - none: nothing, and no read-ahead either; only what is read is fetched.
 */
export type PrefetchMode = "auto" | "start-set" | "none";

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

export type ReplaySource = "profile" | "start-set" | "nothing";

export interface Replayed {
  from: ReplaySource;
  spans: number;
  /** From the mount's beginning until all of them were there; undefined before, and where they could not be had. */
  ms?: number;
}

export interface FetchAhead {
  /** Begins to fill, where that was asked for; to be called when the mount is ready. */
  fill(): void;
  /** One more start in the same mount, which may be of another command, or the first that wants the image filled. Recording is for one mount and one start. */
  start(options: Omit<FetchAheadOptions, "recordProfile">): void;
  /** So far: a start set that is not the archive's is found while the container starts. */
  readonly replayed: Readonly<Replayed>;
  /** Ends prefetching and filling, and keeps what was recorded. */
  close(): void;
}

export interface FetchAheadParts {
  readonly archive: Archive;
  readonly content: Content;
  readonly cacheDir: string;
  readonly logger: Logger;
  readonly options: FetchAheadOptions;
  /** The start that these options are about is over. */
  readonly isStarted: boolean;
}

/** Begins at once with what a start is known to need. */
export function startFetchAhead({
  archive,
  content,
  cacheDir,
  logger,
  options,
  isStarted,
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

  const begunAt = performance.now();
  const replayed: Replayed = { from: "nothing", spans: 0 };
  const known = new Set<number>();
  const replay = async (from: ReplaySource, spans: readonly number[]) => {
    if (spans.length === 0) return;
    for (const span of spans) known.add(span);
    delete replayed.ms;
    replayed.from = from;
    replayed.spans = known.size;
    const {
      requests,
      spans: fetched,
      compressedBytes,
      failure,
    } = await content.prefetch(spans, ended.signal);
    const ms = Math.round(performance.now() - begunAt);
    if (!failure && !ended.signal.aborted) replayed.ms = ms;
    logger.info(
      { from, spans: spans.length, fetched, compressedBytes, requests, ms },
      "prefetched for the start",
    );
  };
  const foretell = (command: readonly string[] | undefined, mode: PrefetchMode) => {
    const profiled = mode === "auto" ? profiledSpans(archive, cacheDir, command) : [];
    if (profiled.length > 0) void replay("profile", profiled);
    else if (mode !== "none") {
      const own = ownCommandOf(archive);
      if (!command || command[0] === own[0]) void replay("start-set", [...(archive.startSpans ?? [])]);
      if (command && !isSameCommand(command, own))
        void findStartSet(archive, content, command, ended.signal).then(
          (spans) => replay("start-set", spans),
          (error: unknown) => logger.info({ error: describeError(error) }, "no start set was found"),
        );
    }
  };
  if (!isStarted) {
    const mode = options.prefetch ?? "auto";
    foretell(command, mode);
    if (mode !== "none") void content.verifyUsedLast(ended.signal);
  }
  let filling = false;
  const fill = (mode: BackgroundFillMode) => {
    if (mode === "off" || filling) return;
    filling = true;
    void fillInBackground(content, mode, ended.signal, logger);
  };
  return {
    replayed,
    fill: () => fill(options.backgroundFill ?? "off"),
    start(next) {
      foretell(commandOf(archive, next), next.prefetch ?? "auto");
      fill(next.backgroundFill ?? "off");
    },
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

function ownCommandOf({ config }: Archive): readonly string[] {
  return [...config.entrypoint, ...config.cmd];
}

function profiledSpans(
  archive: Archive,
  cacheDir: string,
  command: readonly string[] | undefined,
): readonly number[] {
  const profile = chooseProfile(readProfiles(cacheDir, archive.identity.manifestDigest), command);
  return profile ? spansOf(profile, archive) : [];
}

/** Of a command that the archive has no set for. What it reads to find out is not what the start reads. */
async function findStartSet(
  archive: Archive,
  content: Content,
  args: readonly string[],
  signal: AbortSignal,
): Promise<readonly number[]> {
  // Loaded here: a start from a profile needs none of it.
  const { startSpans } = await import("../program/start-spans.js");
  const set = await startSpans({
    archive,
    content: { read: (request) => content.read({ ...request, aside: true }) },
    command: startCommand(archive.config, args),
    reproducible: false,
    signal,
  });
  return set.spans;
}

async function fillInBackground(
  content: Content,
  mode: Exclude<BackgroundFillMode, "off">,
  signal: AbortSignal,
  logger: Logger,
): Promise<void> {
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
