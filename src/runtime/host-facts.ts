/** What of the host goes into a container's config.json. Read once, so that building the config is a pure function. */
import { access, readFile, statfs } from "node:fs/promises";
import { hostname } from "node:os";

export interface HostFacts {
  /** v2: one hierarchy at /sys/fs/cgroup; v1: one a controller, also where v2 is mounted beside (hybrid). */
  readonly cgroup: "v1" | "v2";
  readonly hostname: string;
  /** Hard limit of open files. */
  readonly openFilesMax: number;
  /** Those of /etc/resolv.conf and /etc/hosts that exist: a container in the host's network resolves names as the host does. */
  readonly nameFiles: readonly string[];
}

/** CGROUP2_SUPER_MAGIC of linux/magic.h. */
const cgroup2Magic = 0x63677270;
/** fs.nr_open's default: no process can have more, whatever its limit says. */
const openFilesCeiling = 1_048_576;

export async function readHostFacts(): Promise<HostFacts> {
  const [filesystem, limitsText, ...named] = await Promise.all([
    statfs("/sys/fs/cgroup").catch(() => undefined),
    readFile("/proc/self/limits", "utf8"),
    ...["/etc/resolv.conf", "/etc/hosts"].map((file) =>
      access(file).then(
        () => [file],
        () => [],
      ),
    ),
  ]);
  const hard = /^Max open files +\S+ +(\d+|unlimited)/m.exec(limitsText)?.[1];
  return {
    cgroup: filesystem?.type === cgroup2Magic ? "v2" : "v1",
    hostname: hostname(),
    openFilesMax: Math.min(
      hard === undefined || hard === "unlimited" ? openFilesCeiling : Number(hard),
      openFilesCeiling,
    ),
    nameFiles: named.flat(),
  };
}
