/**
 * How bytes leave the disk without any reader noticing, whichever process it is in.
 *
 * A whole layer: its files are unlinked, if the exclusive lock on its map can be had at once. Everybody who has them open holds a shared one.
 *
 * Spans of a layer that is in use: a hole may only be punched where nobody reads any more, but readers trust what they have once verified, and ask nobody
 * before they read it again. So the map is retired:
 *
 *   1. a copy of the map, with the chosen spans marked `evicting`, takes the name of the map; the old one is kept as `retired-<layout>`
 *   2. who has the old one open finds out within seconds (LayerCache.releaseStale), closes both files, when the reads under way have ended, and opens
 *      them anew, with nothing verified. In the new map the chosen spans are neither read nor written
 *   3. when the exclusive lock on the old map can be had, its last user has gone. The holes are punched, the spans marked absent, what was written through the
 *      old map meanwhile is marked present in the new one, and the old one is removed
 *
 * Why no reader is ever given a hole: bytes are punched that some map C marks `evicting`, where C has the name of the map and is the data file's. A reader of this
 * data file has a map of it open and locked. With C, the span is `evicting` from the beginning to the end of the punching (only the holder of the lock on the
 * directory changes that, which is us), so it neither has it verified nor will. With a later map, C would have lost its name, and that takes the same lock, or a new
 * data file. With the retired map, we would not have the lock on it. There is no third one: retiring waits until the last retired map is gone.
 *
 * A crash between any two steps leaves what finishEviction completes: holes are punched again where nobody can have written, `retired` is removed
 * last. A process that is stopped in the middle of a read holds its lock, and the holes wait for it.
 */
import { constants } from "node:fs";
import { type FileHandle, link, open, readFile, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { systemErrorCode } from "../base/errors.js";
import type { NativeBinding } from "../native/binding.js";
import { waitForLock } from "./file-lock.js";
import { isNamed, type LayerFileNames, temporaryName, withLayerDirectory } from "./layer-files.js";
import { type PresenceMap, readMap, SpanState, stateAt } from "./presence-map.js";

export type EvictionNative = Pick<NativeBinding, "tryLock" | "punchHole">;

/** `busy`: in use, or somebody else works on it. */
export type Removal = "removed" | "busy";

/** Removes a layer that nobody has open. Throws what node:fs and flock(2) throw. */
export async function removeUnusedLayer(names: LayerFileNames, native: EvictionNative): Promise<Removal> {
  const removal = await withLayerDirectory(names.directory, native, async (): Promise<Removal> => {
    const map = await openExisting(names.map, constants.O_RDONLY);
    try {
      if (map && !native.tryLock(map.fd, true)) return "busy";
      await removeFiles(names);
      return "removed";
    } finally {
      await map?.close();
    }
  });
  if (removal === "removed") await removeEmptyDirectory(names.directory);
  return removal ?? "busy";
}

/** Unlinks a layer that may be in use: its users let go of it within seconds, and read on elsewhere. Needs no room on the disk. */
export async function unlinkLayer(names: LayerFileNames, native: EvictionNative): Promise<void> {
  await withLayerDirectory(names.directory, native, () => removeFiles(names));
}

/**
 * Removes a layer whose map tells nothing, or speaks of an eviction that nobody can finish any more, also where it is in use: users of files without a
 * name let go of them. Resolves to whether it was so.
 */
export async function removeDamagedLayer(names: LayerFileNames, native: EvictionNative): Promise<boolean> {
  const removed = await withLayerDirectory(names.directory, native, async () => {
    const map = await readMapFile(names.map);
    if (map && (map.spansIn(SpanState.evicting).length === 0 || (await fileExists(names.retiredMap))))
      return false;
    await removeFiles(names);
    return true;
  });
  return removed ?? false;
}

/** True where a process has the layer open, this one included. */
export async function isLayerInUse(names: LayerFileNames, native: EvictionNative): Promise<boolean> {
  const inUse = await withLayerDirectory(names.directory, native, async () => {
    for (const name of [names.map, names.retiredMap]) {
      const map = await openExisting(name, constants.O_RDONLY);
      try {
        if (map && !native.tryLock(map.fd, true)) return true;
      } finally {
        await map?.close();
      }
    }
    return false;
  });
  return inUse ?? false;
}

/** Step 1. False where an eviction of this layer has not been finished, or its map is damaged. */
export async function retireMap(
  names: LayerFileNames,
  spans: readonly number[],
  native: EvictionNative,
): Promise<boolean> {
  const retired = await withLayerDirectory(names.directory, native, async () => {
    if (await fileExists(names.retiredMap)) return false;
    const map = await readMapFile(names.map);
    // The second: an eviction whose retired map somebody has deleted. Nobody knows any more who reads what.
    if (!map || map.spansIn(SpanState.evicting).length > 0) return false;
    for (const span of spans) map.setState(span, SpanState.evicting);
    const next = temporaryName(names.map);
    try {
      await writeFile(next, map.bytes, { mode: 0o600, flag: "wx" });
      await link(names.map, names.retiredMap);
      await rename(next, names.map);
    } finally {
      await rm(next, { force: true });
    }
    return true;
  });
  return retired ?? false;
}

export type Finish =
  /** Nothing was to be finished. */
  | { readonly outcome: "none" }
  /** Somebody has not gone on to the new map yet; the holes are punched by whoever comes next. */
  | { readonly outcome: "waiting" }
  /** The filesystem cannot punch holes: the files were unlinked, and their space is free when their last user has noticed. */
  | { readonly outcome: "unlinked" }
  | { readonly outcome: "punched"; readonly spans: number };

/** Steps 2 and 3, also for an eviction that another process has begun. Waits for users of the old map, `waitMsMax` at most. */
export async function finishEviction(
  names: LayerFileNames,
  native: EvictionNative,
  options: { readonly waitMsMax: number; readonly signal?: AbortSignal | undefined },
): Promise<Finish> {
  const retired = await openExisting(names.retiredMap);
  if (!retired) return { outcome: "none" };
  try {
    // Begun, and killed before the new map had the name: nothing has happened.
    if (await isNamed(retired, names.map)) {
      await withLayerDirectory(names.directory, native, async () => {
        if (await isNamed(retired, names.map)) await rm(names.retiredMap, { force: true });
      });
      return { outcome: "none" };
    }
    if (!(await waitForLock(retired, native, { exclusive: true, ...options }))) return { outcome: "waiting" };
    const finished = await withLayerDirectory(names.directory, native, () =>
      finishUnused(names, retired, native),
    );
    return finished ?? { outcome: "waiting" };
  } finally {
    await retired.close();
  }
}

/** With the exclusive lock on the retired map, and the one on the directory. */
async function finishUnused(
  names: LayerFileNames,
  retired: FileHandle,
  native: EvictionNative,
): Promise<Finish> {
  if (!(await isNamed(retired, names.retiredMap))) return { outcome: "none" };
  const files = await openBoth(names);
  const before = readMap(await retired.readFile());
  const now = files && readMap(await files.map.readFile());
  try {
    if (!files || !now || !before || before.spanCount !== now.spanCount) {
      await removeFiles(names);
      return { outcome: "unlinked" };
    }
    const evicting = now.spansIn(SpanState.evicting);
    for (const { offset, length } of rangesOf(now, evicting)) {
      if (await native.punchHole(files.data.fd, offset, length)) continue;
      await removeFiles(names);
      return { outcome: "unlinked" };
    }
    for (const span of evicting) await setState(files.map, span, SpanState.absent);
    const chosen = new Set(evicting);
    for (const span of before.spansIn(SpanState.present))
      if (!chosen.has(span) && now.state(span) === SpanState.absent)
        await setState(files.map, span, SpanState.present);
    await rm(names.retiredMap, { force: true });
    return { outcome: "punched", spans: evicting.length };
  } finally {
    await files?.data.close();
    await files?.map.close();
  }
}

async function openBoth(names: LayerFileNames): Promise<{ data: FileHandle; map: FileHandle } | undefined> {
  const data = await openExisting(names.data);
  const map = await openExisting(names.map);
  if (data && map) return { data, map };
  await data?.close();
  await map?.close();
  return undefined;
}

/** Of neighbours as one, so that the blocks that they share come free too. */
function rangesOf(map: PresenceMap, spans: readonly number[]): { offset: number; length: number }[] {
  const offsets = map.spanOffsets();
  const ranges: { offset: number; length: number }[] = [];
  for (const span of spans) {
    const last = ranges.at(-1);
    const length = map.spanBytes(span);
    if (last && last.offset + last.length === offsets[span]) last.length += length;
    else if (length > 0) ranges.push({ offset: offsets[span]!, length });
  }
  return ranges;
}

async function setState(map: FileHandle, span: number, state: number): Promise<void> {
  await map.write(Uint8Array.of(state), 0, 1, stateAt(span));
}

/** The map in a file; undefined where there is none, or a damaged one. */
export async function readMapFile(file: string): Promise<PresenceMap | undefined> {
  try {
    return readMap(await readFile(file));
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Data first: should the rest not come to pass, the space is free, and what is left says so. */
async function removeFiles(names: LayerFileNames): Promise<void> {
  for (const file of [names.data, names.map, names.retiredMap]) await rm(file, { force: true });
}

/** Also where it is not empty, or gone: then nothing happens. Whoever is about to make files in it makes it again. */
export async function removeEmptyDirectory(directory: string): Promise<void> {
  await rmdir(directory).catch((error: unknown) => {
    const code = systemErrorCode(error) ?? "";
    if (!["ENOTEMPTY", "EEXIST", "ENOENT"].includes(code)) throw error;
  });
}

async function fileExists(file: string): Promise<boolean> {
  return (await stat(file).catch(() => undefined)) !== undefined;
}

/** For a lock alone O_RDONLY is enough, and goes on a filesystem that is read-only. */
async function openExisting(file: string, access = constants.O_RDWR): Promise<FileHandle | undefined> {
  try {
    return await open(file, access | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}
