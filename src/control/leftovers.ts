/**
 * What processes that were killed, or a host that went down, have left: found first, as a list that can be shown, and removed from that list.
 *
 * Nothing is guessed. A record says what its maker had in hand, and directories and mounts without a record belong to nobody, for a record is written before what it names and
 * removed after. A mount is only touched where its connection is known to be dead or nobody's: looking into one whose server is just being replaced would
 * wait for it.
 */
import { readdir, rm, statfs } from "node:fs/promises";
import path from "node:path";
import { describeError, isSkimError, systemErrorCode } from "../base/errors.js";
import { isRunning } from "../base/process-identity.js";
import type { Settings } from "../base/settings.js";
import { findMountHolders } from "../fuse/mount-holders.js";
import { findMount, type MountEntry, readMountTable } from "../fuse/mount-table.js";
import { MNT_DETACH, UMOUNT_NOFOLLOW } from "../fuse/umount-flags.js";
import { type MountRecord, MountRecords } from "../mount/mount-record.js";
import { undoRecord } from "../mount/undo-record.js";
import { findOverlayHolders } from "../overlay/overlay-holders.js";
import { type OverlayBinding, type OverlayMount, workDirectoryOf } from "../overlay/overlay-mount.js";
import { isInside, overlaysIn } from "../overlay/overlay-table.js";
import { unmountOverlay } from "../overlay/overlay-unmount.js";
import type { LeftoversAnswer } from "./api-schemas.js";
import { holdsChanges } from "./upper-changes.js";

export type LeftoverKind = "rootfs" | "mount" | "image" | "overlay" | "directory" | "file" | "record";

export interface Leftover {
  readonly kind: LeftoverKind;
  /** An id, or a path. */
  readonly name: string;
  readonly why: string;
  /** Who uses it: it is left alone. */
  readonly inUseBy?: readonly string[];
  /** Not known to anybody where a look at it is wanted first: it goes only when somebody has said so. */
  readonly keeps?: string;
  /** Takes away what can go without anybody losing anything, where `remove` may not be called. */
  unmount?(): Promise<void>;
  remove(): Promise<void>;
}

export interface LeftoverOptions {
  readonly settings: Pick<Settings, "runDir" | "cacheDir">;
  readonly native: OverlayBinding;
  /** Ids of image mounts that somebody serves, or holds for a server to come. */
  readonly held: ReadonlySet<string>;
  /** Runs `work` while nobody makes or removes what has this id. */
  readonly alone?: (id: string, work: () => Promise<void>) => Promise<void>;
}

/** In the order in which they are to be removed. */
async function findLeftovers(options: LeftoverOptions): Promise<Leftover[]> {
  const { runDir, cacheDir } = options.settings;
  // Directories and mounts before records: one that is seen here and has no record then has lost it.
  const table = readMountTable();
  const uppers = await namesIn([path.join(cacheDir, "rootfs")]);
  const directories = await namesIn([
    path.join(runDir, "rootfs"),
    path.join(runDir, "images"),
    path.join(runDir, "bundles"),
  ]);
  const files = await namesIn([path.join(runDir, "mounts"), path.join(runDir, "logs")]);
  const records = new MountRecords(runDir);
  const recorded = await records.list();
  const unreadable = await records.unreadable();
  const dead = new Set<string>();
  for (const record of recorded) if (await isDead(record, options, table)) dead.add(record.id);
  const found: Leftover[] = [];
  for (const record of recorded) {
    const leftover = await ofRecord(record, dead, records, options);
    if (leftover) found.push(leftover);
  }
  const ids = new Set([...recorded.map(({ id }) => id), ...unreadable.keys()]);
  for (const [id, file] of unreadable) found.push(ofUnreadable(id, file));
  found.push(...(await ofMounts(recorded, table, options)));
  for (const directory of uppers)
    if (!ids.has(path.basename(directory))) found.push(await ofUpper(directory, table));
  for (const directory of directories) {
    if (ids.has(path.basename(directory))) continue;
    if (options.held.has(path.basename(directory))) continue;
    if (table.some(({ mountpoint }) => `${mountpoint}/`.startsWith(`${directory}/`))) continue;
    found.push({
      kind: "directory",
      name: directory,
      why: "no rootfs, image or bundle of this name is recorded",
      remove: () => rm(directory, { recursive: true, force: true }),
    });
  }
  for (const file of files) {
    const id = /^(.*)\.(sock|log|log\.1)$/.exec(path.basename(file))?.[1];
    if (id === undefined || id === "daemon" || ids.has(id) || options.held.has(id)) continue;
    found.push({
      kind: "file",
      name: file,
      why: "of a mount that is gone",
      remove: () => rm(file, { force: true }),
    });
  }
  return found;
}

/** Finds, and with `remove` removes, what is left; with `all` also what may be somebody's work. `kept`: why something stays, or would. */
export async function cleanUp(
  options: LeftoverOptions,
  how: { readonly remove: boolean; readonly all: boolean },
): Promise<LeftoversAnswer> {
  if (!how.remove)
    return (await findLeftovers(options)).map(({ kind, name, why, keeps, inUseBy }) => ({
      ...{ kind, name, why },
      ...(inUseBy?.length ? { kept: `in use by ${inUseBy.join(", ")}` } : keeps ? { kept: keeps } : {}),
    }));
  const answer: LeftoversAnswer = [];
  for (;;) {
    const { removed, kept } = await removeLeftovers(await findLeftovers(options), how);
    answer.push(...removed.map(({ kind, name, why }) => ({ kind, name, why })));
    // What only a leftover has used goes in the next round.
    if (removed.length > 0 && kept.length > 0) continue;
    answer.push(
      ...kept.map(({ leftover: { kind, name, why }, why: reason }) => ({ kind, name, why, kept: reason })),
    );
    return answer;
  }
}

/** Removes what nobody uses. `all`: also what may be the only copy of somebody's work. Resolves to what is left, with the reason. */
async function removeLeftovers(
  leftovers: readonly Leftover[],
  { all = false }: { readonly all?: boolean } = {},
): Promise<{ removed: Leftover[]; kept: { leftover: Leftover; why: string }[] }> {
  const removed: Leftover[] = [];
  const kept: { leftover: Leftover; why: string }[] = [];
  for (const leftover of leftovers) {
    const { inUseBy, keeps } = leftover;
    if (inUseBy?.length) kept.push({ leftover, why: `in use by ${inUseBy.join(", ")}` });
    else {
      const isKept = keeps !== undefined && !all;
      try {
        if (isKept) {
          await leftover.unmount?.();
          kept.push({ leftover, why: keeps });
        } else {
          await leftover.remove();
          removed.push(leftover);
        }
      } catch (error) {
        kept.push({ leftover, why: describeError(error) });
      }
    }
  }
  return { removed, kept };
}

/** True where the image of a record cannot be read any more, whoever starts again. */
async function isDead(
  record: MountRecord,
  { held }: LeftoverOptions,
  table: readonly MountEntry[],
): Promise<boolean> {
  if (held.has(record.sharedImage ?? record.id)) return false;
  // A server of its own that runs, however slow, is no leftover.
  if (record.sharedImage === undefined && record.server && isRunning(record.server)) return false;
  const mount = findMount(record.lower, [...table]);
  if (mount?.type !== "fuse.skim") return true;
  // Nobody holds the connection, so the kernel answers at once, and from memory.
  const failure = await statfs(record.lower).then(() => undefined, systemErrorCode);
  return failure === "ENOTCONN" || failure === "ECONNABORTED";
}

async function ofRecord(
  record: MountRecord,
  dead: ReadonlySet<string>,
  records: MountRecords,
  options: LeftoverOptions,
): Promise<Leftover | undefined> {
  const { id, complete, owner, server, sharedImage } = record;
  const ownerLives = owner !== undefined && isRunning(owner);
  const serverLives = sharedImage === undefined && server !== undefined && isRunning(server);
  const { alone = (_, work) => work() } = options;
  const undo = () =>
    alone(id, async () => {
      // Somebody else may have undone it meanwhile, and another have taken its name.
      if ((await records.find(id))?.createdAt === record.createdAt)
        await undoRecord(records, record, { force: true, native: options.native });
    });
  if (!complete) {
    // Being made, or a run that goes on; a server whose owner has gone is at it already.
    if (ownerLives || serverLives) return undefined;
    return { ...nameOf(record), why: "its maker has died", remove: undo };
  }
  if (!dead.has(id)) return undefined;
  const why = "its server has died: nobody can read in it any more";
  const inUseBy = await usersOf(record);
  if (inUseBy.length > 0) return { ...nameOf(record), why, inUseBy, remove: async () => {} };
  const upper = (record.overlay as OverlayMount | undefined)?.upper;
  if (record.kind !== "image" && upper && !record.upperGiven && (await holdsChanges(upper))) {
    return {
      ...nameOf(record),
      why,
      keeps: `${upper} holds what was written in it; take what you need, then: skim rootfs umount ${id}`,
      unmount: () => unmountKeeping(record, options.native),
      remove: undo,
    };
  }
  return { ...nameOf(record), why, remove: undo };
}

async function unmountKeeping(record: MountRecord, native: OverlayBinding): Promise<void> {
  const overlay = record.overlay as OverlayMount;
  try {
    await unmountOverlay(overlay, { native, keepUpper: true });
  } catch (error) {
    if (!isSkimError(error)) throw error;
  }
}

function nameOf({ id, kind }: MountRecord): Pick<Leftover, "kind" | "name"> {
  return { kind: kind === "image" || kind === "mount" ? kind : "rootfs", name: id };
}

async function usersOf(record: MountRecord): Promise<string[]> {
  const overlay = record.overlay as OverlayMount | undefined;
  // Of what is below an overlay the overlay itself is a user.
  const mount = findMount(overlay?.merged ?? record.lower);
  const holders = mount ? findMountHolders(mount) : [];
  const elsewhere = overlay ? findOverlayHolders(overlay.upper) : [];
  return [
    ...holders,
    ...elsewhere
      .filter(({ mountpoint }) => mountpoint !== overlay?.merged)
      .map(({ pid, name }) => `process ${pid} (${name})`),
  ];
}

/** What some other version has written, or no version: what it names, nobody here can tell. */
function ofUnreadable(id: string, file: string): Leftover {
  return {
    kind: "record",
    name: file,
    why: "it cannot be read by this version of skim",
    keeps: `it may name what is still mounted; see what it says of ${id}, undo that, then remove the file`,
    remove: () => rm(file, { force: true }),
  };
}

/**
 * A writable layer that no record here names. The cache directory is on a disk, and records are not: it may be of before the host went down, or of a run directory other than
 * this one. What `--keep-upper` has left is told by its missing work directory.
 */
async function ofUpper(directory: string, table: readonly MountEntry[]): Promise<Leftover> {
  const upper = path.join(directory, "upper");
  const isBelow = (place: string | undefined) => place !== undefined && isInside(place, directory);
  const overlays = overlaysIn(table).filter((overlay) => isBelow(overlay.upper));
  const inUseBy = [
    ...table
      .filter(({ mountpoint }) => isBelow(mountpoint))
      .map(({ type, mountpoint }) => `the ${type} at ${mountpoint}`),
    ...overlays.map(({ mountpoint }) => `the overlay at ${mountpoint}`),
    // A copy at the same place is what every new mount namespace begins with.
    ...findOverlayHolders(upper)
      .filter((holder) => !overlays.some(({ mountpoint }) => mountpoint === holder.mountpoint))
      .map(({ pid, name }) => `process ${pid} (${name})`),
  ];
  const names: string[] = await readdir(directory).catch(() => []);
  const wasKept = names.includes("upper") && !names.includes(path.basename(workDirectoryOf(upper)));
  const keeps = wasKept
    ? `${upper} was kept when its rootfs was undone`
    : (await holdsChanges(upper))
      ? `${upper} holds what was written in it`
      : undefined;
  return {
    kind: "directory",
    name: directory,
    why: "no rootfs of this name is recorded",
    ...(inUseBy.length > 0 ? { inUseBy } : {}),
    ...(keeps ? { keeps: `${keeps}; take what you need, then remove the directory` } : {}),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

/** Mounts of ours that no record names. */
async function ofMounts(
  recorded: readonly MountRecord[],
  table: readonly MountEntry[],
  { settings, held, native }: LeftoverOptions,
): Promise<Leftover[]> {
  const ours = (directory: string) => `${directory}/`.startsWith(`${settings.runDir}/`);
  const detach = (place: string) => native.umount(place, MNT_DETACH | UMOUNT_NOFOLLOW);
  const overlays = overlaysIn(table)
    .filter(
      ({ lower, mountpoint }) =>
        lower !== undefined && ours(lower) && !recorded.some(({ merged }) => merged === mountpoint),
    )
    .map(
      ({ mountpoint }): Leftover => ({
        kind: "overlay",
        name: mountpoint,
        why: "no rootfs is recorded that has it",
        remove: () => detach(mountpoint),
      }),
    );
  const images = table
    .filter(({ type, mountpoint }) => type === "fuse.skim" && ours(mountpoint))
    .filter(({ mountpoint }) => !recorded.some(({ lower }) => lower === mountpoint))
    .filter(({ source }) => !held.has(source.replace(/^skim:/, "")))
    .map(
      ({ mountpoint }): Leftover => ({
        kind: "mount",
        name: mountpoint,
        why: "no image or rootfs is recorded that has it",
        remove: () => detach(mountpoint),
      }),
    );
  return [...overlays, ...images];
}

/** Paths of what is in these directories, those that are there. */
async function namesIn(directories: readonly string[]): Promise<string[]> {
  const listed = await Promise.all(
    directories.map(async (directory) =>
      (await readdir(directory).catch(() => [])).map((name) => path.join(directory, name)),
    ),
  );
  return listed.flat();
}
