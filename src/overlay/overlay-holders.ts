/**
 * Finds containers that go on using an overlay: it stays alive in their mount namespace when it is unmounted in ours. Read from /proc
 * alone, so that nothing in the mount is touched.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
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

/**
 * Where else the overlay with this upper dir is mounted: one holder for each mount. Blocks for two microseconds a process of the host, and for a read of each mount namespace: by
 * libuv's pool that takes ten times as long.
 */
export function findOverlayHolders(upper: string): OverlayHolder[] {
  const own = linkTarget("/proc/self/ns/mnt");
  const namespaces = new Map<string, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const namespace = linkTarget(`/proc/${name}/ns/mnt`) ?? own;
    if (namespace === undefined || namespace === own) continue;
    const pids = namespaces.get(namespace);
    if (pids) pids.push(Number(name));
    else namespaces.set(namespace, [Number(name)]);
  }
  const holders: OverlayHolder[] = [];
  for (const pids of namespaces.values()) {
    for (const pid of pids) {
      // A process that ends meanwhile tells nothing: the next one of its namespace does.
      const bytes = contentOf(`/proc/${pid}/mountinfo`);
      if (!bytes?.length) continue;
      const overlays = overlaysIn(parseMountTable(bytes, (line) => line.includes(" - overlay ")));
      for (const { mountpoint } of overlays.filter((overlay) => overlay.upper === upper))
        holders.push({ pid, name: processName(pid), mountpoint });
      break;
    }
  }
  return holders;
}

function linkTarget(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined;
  }
}

function contentOf(file: string): Uint8Array | undefined {
  try {
    return readFileSync(file);
  } catch {
    return undefined;
  }
}

function processName(pid: number): string {
  const name = Buffer.from(contentOf(`/proc/${pid}/comm`) ?? []).toString("utf8");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a process chooses its own name
  return name.trim().replace(/[\x00-\x1f\x7f]/g, "?");
}
