/**
 * What crun cannot stand of a host: a cgroup v2 hierarchy beside the v1 ones (hybrid) that has controllers. crun 1.8 starts nothing there, not
 * even with --cgroup-manager=disabled, though the v1 hierarchies are all it would use. Which controllers are where is the
 * boot loader's and init's business, so crun gets a view of the host without that hierarchy: a mount namespace of its own, from which the
 * container's is made anyway.
 */
import { readFile } from "node:fs/promises";

/** Where systemd and others mount v2 beside v1, and the only place at which crun looks. */
const unified = "/sys/fs/cgroup/unified";

/**
 * Constant; what varies comes as arguments. Mounts of the host still go away in the namespace when they do outside (slave), so that
 * crun, which waits in it for the container's end, keeps none.
 */
const withoutUnified = [
  "unshare",
  "--mount",
  "--propagation",
  "slave",
  "sh",
  "-c",
  'umount -l "$1" && shift && exec "$@"',
  "crun",
  unified,
] as const;

/** What is to be executed before crun, on this host. */
export async function crunPrefix(): Promise<readonly string[]> {
  const controllers = await readFile(`${unified}/cgroup.controllers`, "utf8").catch(() => "");
  return controllers.trim() === "" ? [] : withoutUnified;
}
