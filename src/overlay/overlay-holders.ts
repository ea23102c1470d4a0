/**
 * Finds containers that go on using an overlay: it stays alive in their mount namespace when it is unmounted in ours. Read from /proc
 * alone, so that nothing in the mount is touched.
 */
import { readdir, readFile, readlink } from "node:fs/promises";
import { parseMountTable } from "../fuse/mount-table.js";
import { overlaysIn } from "./overlay-table.js";

/** A mount of an overlay in another mount namespace. */
export interface OverlayHolder {
  /** A process of that namespace, and its name. */
  readonly pid: number;
  readonly name: string;
  /** As that process sees it: `/` for a container. */
  readonly mountpoint: string;
}

/** Where else the overlay with this upper dir is mounted: one holder for each mount. */
export async function findOverlayHolders(upper: string): Promise<OverlayHolder[]> {
  const own = await readlink("/proc/self/ns/mnt");
  const namespaces = new Map<string, number[]>();
  const processIds = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  await Promise.all(
    processIds.map(async (pid) => {
      const namespace = await readlink(`/proc/${pid}/ns/mnt`).catch(() => own);
      if (namespace !== own) namespaces.set(namespace, [...(namespaces.get(namespace) ?? []), pid]);
    }),
  );
  const holders: OverlayHolder[] = [];
  for (const pids of namespaces.values()) {
    for (const pid of pids) {
      // A process that ends meanwhile tells nothing: the next one of its namespace does.
      const table = await readFile(`/proc/${pid}/mountinfo`).then(parseMountTable, () => []);
      if (table.length === 0) continue;
      for (const { mountpoint } of overlaysIn(table).filter((overlay) => overlay.upper === upper)) {
        holders.push({ pid, name: await processName(pid), mountpoint });
      }
      break;
    }
  }
  return holders;
}

async function processName(pid: number): Promise<string> {
  const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a process chooses its own name
  return name.trim().replace(/[\x00-\x1f\x7f]/g, "?");
}
