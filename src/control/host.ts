/**
 * What a caller does with mounts on this host: through its daemon where one runs, which shares mounts and outlives its own death, and with a server of its own where
 * none does. The same functions either way.
 */
import path from "node:path";
import { isSkimError, SkimError } from "../base/errors.js";
import { identifyProcess } from "../base/process-identity.js";
import { resolveSettings, type Settings } from "../base/settings.js";
import {
  type MadeBundle,
  type MakeBundleOptions,
  makeBundle as makeBundleWith,
} from "../mount/bundle-image.js";
import {
  type ExplainedStart,
  type MountInFull,
  readMountInFull as readMountOf,
  readStart as readStartOf,
} from "../mount/explain-mount.js";
import { withImage } from "../mount/image-in-use.js";
import { type OpenedImage, openImageOrArchive } from "../mount/image-or-archive.js";
import {
  beginMarks,
  type MountedImage,
  type MountImageOptions,
  mountImage as mountImageAlone,
  type UmountOptions,
  umountImage as umountImageAlone,
} from "../mount/mount-image.js";
import { MountRecords, newMountId } from "../mount/mount-record.js";
import { type AskServer, askOwnServer } from "../mount/mount-stats.js";
import { type ObservedMount, observeMounts as observeMountsOf } from "../mount/observe-mounts.js";
import {
  type HeldRootfs,
  type HoldRootfs,
  holdRootfs as holdRootfsAlone,
  isSeenBefore,
  type MountedRootfs,
  type MountRootfsOptions,
  requireRootfs,
  type UmountRootfsOptions,
  umountRootfs as umountRootfsAlone,
} from "../mount/rootfs.js";
import { type RanImage, type RunImageOptions, runImage as runImageWith } from "../mount/run-image.js";
import type { RootfsRequestBody } from "./api-schemas.js";
import { DaemonClient } from "./daemon-client.js";

/** Where docker and podman look for credentials, by the environment of whoever asks. */
const credentialVariables = ["HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"] as const;

export interface DaemonChoice {
  /** False: with a server of its own, though a daemon runs. */
  readonly daemon?: boolean;
}

type AnyMountOptions = Pick<MountRootfsOptions, "settings" | "engine" | "traceOperations"> & DaemonChoice;

export interface DisposableRootfs extends MountedRootfs {
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Mounts a rootfs that stays until `umountRootfs`, or the end of the block that has it with `await using`. Resolves when it can be used. On failure
 * nothing is left. Throws what indexing and mounting throw, and BUSY where the daemon takes no more.
 */
export async function mountRootfs(options: MountRootfsOptions & DaemonChoice): Promise<DisposableRootfs> {
  const held = await holdRootfs(options, undefined, { isOwned: false });
  await held.release();
  const { id, lower, upper, work, merged } = held;
  const { settings } = options;
  return {
    ...{ id, lower, upper, work, merged },
    [Symbol.asyncDispose]: async () =>
      void (await umountRootfs(id, settings ? { settings } : {}).catch(ignoreNotFound)),
  };
}

function ignoreNotFound(error: unknown): void {
  if (!isSkimError(error, "NOT_FOUND")) throw error;
}

/** Undoes mountRootfs, whoever made it. Throws NOT_FOUND, and IN_USE naming who uses it. */
export async function umountRootfs(
  id: string,
  options: UmountRootfsOptions = {},
): Promise<{ id: string; upper: string | undefined }> {
  const { force, keepUpper } = options;
  const { runDir } = resolveSettings(options.settings);
  const { sharedImage } = await requireRootfs(new MountRecords(runDir), id, options);
  const client = sharedImage === undefined ? undefined : (await DaemonClient.find(runDir))?.client;
  if (!client) return await umountRootfsAlone(id, options);
  const removal = await client.remove(id, { force: force ?? false, keepUpper: keepUpper ?? false });
  return { id, upper: removal.upper };
}

/** Shows an image at a directory, read-only. Resolves when the mount answers. On failure nothing is left. */
export async function mountImage(options: MountImageOptions & DaemonChoice): Promise<MountedImage> {
  const found = await findDaemon(options);
  if (!found) return await mountImageAlone(options);
  const { client, health } = found;
  const { request, reference } = await imageRequest(options);
  const id = options.id ?? newMountId("mount");
  const { mountpoint } = await client.createMount({
    ...request,
    id,
    directory: path.resolve(options.directory),
  });
  const { runDir } = resolveSettings(options.settings);
  return {
    ...{ id, mountpoint, reference, archive: request.image },
    pid: health.pid,
    log: path.join(runDir, "logs", "daemon.log"),
  };
}

/** Undoes mountImage, by its directory or id. Throws NOT_FOUND, and IN_USE naming who holds files open in it. */
export async function umountImage(
  directoryOrId: string,
  options: UmountOptions = {},
): Promise<{ id: string; mountpoint: string }> {
  const { runDir } = resolveSettings(options.settings);
  const records = await new MountRecords(runDir).list();
  const directory = path.resolve(directoryOrId);
  const record = records.find(
    ({ id, lower, kind, sharedImage }) =>
      kind === "mount" && sharedImage !== undefined && (id === directoryOrId || lower === directory),
  );
  const client = record && (await daemonOf(runDir, record.id));
  if (!record || !client) return await umountImageAlone(directoryOrId, options);
  await client.remove(record.id, { force: options.force ?? false });
  return { id: record.id, mountpoint: record.lower };
}

/** Runs an image; see src/mount/run-image.ts. */
export async function runImage(options: RunImageOptions & DaemonChoice): Promise<RanImage> {
  return await runImageWith(options, holdWith(options));
}

/** Makes a bundle; see src/mount/bundle-image.ts. */
export async function makeBundle(options: MakeBundleOptions & DaemonChoice): Promise<MadeBundle> {
  return await makeBundleWith(options, holdWith(options));
}

/** What a mount, or the image under a rootfs, has served and fetched, with the files of its slow reads. Throws NOT_FOUND where no server of that id answers. */
export async function readMountInFull(runDir: string, id: string): Promise<MountInFull> {
  return await readMountOf(runDir, id, askAnyServer(runDir));
}

/** Where the start of a mount went, as far as its first `windowMs` milliseconds. Throws NOT_FOUND. */
export async function readStart(runDir: string, id: string, windowMs: number): Promise<ExplainedStart> {
  return await readStartOf(runDir, id, windowMs, askAnyServer(runDir));
}

/** All mounts of this host as they are now; an image that is shared is one. */
export async function observeMounts(runDir: string): Promise<ObservedMount[]> {
  return await observeMountsOf(runDir, askAnyServer(runDir));
}

/** Asks whichever server has a mount. */
function askAnyServer(runDir: string): AskServer {
  const ask = askOwnServer(runDir);
  return async (id, operation, timeoutMs) => {
    const client = await daemonOf(runDir, id);
    if (!client) return await ask(id, operation, timeoutMs);
    return operation === "stats" ? await client.stats(id) : await client.start(id);
  };
}

function holdWith({ daemon }: DaemonChoice): HoldRootfs {
  return (options, plan) =>
    holdRootfs({ ...options, ...(daemon === undefined ? {} : { daemon }) }, plan, { isOwned: true });
}

/** `isOwned`: it goes with this process until it is released. */
async function holdRootfs(
  options: MountRootfsOptions & DaemonChoice,
  plan: Parameters<HoldRootfs>[1],
  { isOwned }: { readonly isOwned: boolean },
): Promise<HeldRootfs> {
  const found = await findDaemon(options);
  if (!found) return await holdRootfsAlone(options, plan);
  const { client } = found;
  const { runDir } = resolveSettings(options.settings);
  const records = new MountRecords(runDir);
  const marks = beginMarks(options);
  return await withImage(options.image, { ...options, marks }, async (opened, meaning) => {
    const { kind, upper, tmpfsUpper, merged, ownDirectories } = options;
    const dirs = [...(options.dirs ?? []), ...(plan?.directories(opened.archive) ?? [])];
    if (isSeenBefore(options)) await meaning.confirm();
    marks.set("launched");
    const creating = client.createRootfs({
      ...requestFor(opened, options),
      id: options.id,
      dirs: [...dirs],
      ...(kind ? { kind } : {}),
      ...(tmpfsUpper ? { tmpfsUpper } : {}),
      ...(upper ? { upper: path.resolve(upper) } : {}),
      ...(merged ? { merged: path.resolve(merged) } : {}),
      ...(ownDirectories ? { ownDirectories: [...ownDirectories] } : {}),
      ...(isOwned ? { owner: identifyProcess(process.pid) } : {}),
    });
    // The request leaves when the socket is connected, with the next turn of the event loop.
    setImmediate(() => meaning.ask());
    const mounted = await creating;
    marks.set("overlaid");
    const undo = async (how: UmountRootfsOptions) => {
      const { force = false, keepUpper = false } = how;
      try {
        await client.remove(options.id, { force, keepUpper });
      } catch (error) {
        // Somebody has undone it already: by hand, or the whole host by force.
        if (isSkimError(error, "NOT_FOUND")) return;
        // No daemon comes back: what it has mounted can be undone without it.
        if (!isSkimError(error, "LOCAL_IO")) throw error;
        await umountRootfsAlone(options.id, { ...how, settings: options.settings ?? {} });
      }
    };
    try {
      await plan?.prepare({ archive: opened.archive, lower: mounted.lower });
      await meaning.confirm();
      const record = await records.find(options.id);
      if (!record) throw new SkimError("LOCAL_IO", `somebody else has removed rootfs ${options.id}`);
      const { id, lower, upper: upperDirectory, work, merged: mergedDirectory } = mounted;
      return {
        ...{ id, lower, upper: upperDirectory, work, merged: mergedDirectory, record, undo },
        // The daemon is followed by another.
        lost: new Promise(() => {}),
        async note(changes) {
          Object.assign(record, changes);
          await records.update(record);
        },
        async release() {
          record.complete = true;
          record.startMarks = marks.snapshot();
          await records.update(record);
        },
        stats: () => client.stats(id).catch(() => undefined),
      };
    } catch (error) {
      await undo({ force: true }).catch(() => {});
      throw error;
    }
  });
}

/** Undefined where no daemon runs that can do what is wanted. */
async function findDaemon(options: AnyMountOptions) {
  const { daemon = true, engine, traceOperations } = options;
  // The daemon serves with its native threads, and traces nobody.
  if (!daemon || traceOperations || (engine !== undefined && engine !== "native")) return undefined;
  const settings = resolveSettings(options.settings);
  const found = await DaemonClient.find(settings.runDir);
  // Another cache is another host, as far as anybody can tell.
  return found?.health.cacheDir === settings.cacheDir ? found : undefined;
}

/** The daemon that has `id`. */
async function daemonOf(runDir: string, id: string): Promise<DaemonClient | undefined> {
  const record = await new MountRecords(runDir).find(id);
  if (record?.sharedImage === undefined && record?.kind !== "image") return undefined;
  return (await DaemonClient.find(runDir))?.client;
}

/** The image has been found, and indexed where it was not yet, here: with this process's credentials, and its progress to be seen. */
function requestFor(
  { archiveFile, source }: Omit<OpenedImage, "archive">,
  options: MountRootfsOptions | MountImageOptions,
) {
  const settings = resolveSettings(options.settings);
  const { prefetch, backgroundFill, recordProfile, command } = options;
  return {
    image: archiveFile,
    source: options.source ?? source,
    access: accessOf(settings),
    ...(prefetch ? { prefetch } : {}),
    ...(backgroundFill ? { backgroundFill } : {}),
    ...(recordProfile ? { recordProfile } : {}),
    ...(command ? { command: mutableCommand(command) } : {}),
  } satisfies Omit<RootfsRequestBody, "id">;
}

async function imageRequest(options: MountImageOptions) {
  const opened = await openImageOrArchive(options.image, options);
  await opened.archive.close();
  return { request: requestFor(opened, options), reference: opened.source };
}

function accessOf({ insecureRegistries, mirrors }: Settings): NonNullable<RootfsRequestBody["access"]> {
  const environment = Object.fromEntries(
    credentialVariables.flatMap((name) => {
      const value = process.env[name];
      return value ? [[name, path.resolve(value)]] : [];
    }),
  );
  return { insecureRegistries, mirrors, environment };
}

function mutableCommand({ args, entrypoint }: NonNullable<MountRootfsOptions["command"]>) {
  return { ...(args ? { args: [...args] } : {}), ...(entrypoint ? { entrypoint: [...entrypoint] } : {}) };
}
