/** An OCI bundle with a lazily mounted rootfs, for a caller who runs it himself. */
import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { SkimError } from "../base/errors.js";
import { writeBundle } from "../runtime/bundle.js";
import { type ContainerOptions, planContainer } from "./container-plan.js";
import { newMountId } from "./mount-record.js";
import { type HoldRootfs, holdRootfs, type MountedRootfs, type MountRootfsOptions } from "./rootfs.js";

export interface MakeBundleOptions
  extends Omit<MountRootfsOptions, "id" | "kind" | "merged">,
    ContainerOptions {
  /** Made, or empty. Gets `config.json`, `hostname`, `hosts` for a container without a network, and `rootfs`. */
  readonly directory: string;
  readonly id?: string;
}

export interface MadeBundle extends MountedRootfs {
  readonly bundle: string;
}

/** Makes a bundle that stays until `umountRootfs(id)`. On failure nothing is left but an empty directory that was there before. */
export async function makeBundle(
  options: MakeBundleOptions,
  hold: HoldRootfs = holdRootfs,
): Promise<MadeBundle> {
  const plan = planContainer(options);
  const bundle = path.resolve(options.directory);
  await requireEmpty(bundle);
  const rootfs = path.join(bundle, "rootfs");
  const made = await mkdir(bundle, { recursive: true, mode: 0o700 });
  const held = await hold(
    {
      ...options,
      id: options.id ?? newMountId("bundle"),
      kind: "bundle",
      merged: rootfs,
      ownDirectories: [...(made === undefined ? [] : [bundle]), rootfs],
    },
    plan,
  );
  try {
    await held.note({ bundle });
    await writeBundle(bundle, plan.spec("rootfs", bundle), plan.files);
    await held.release();
  } catch (error) {
    await held.undo({ force: true });
    throw error;
  }
  const { id, lower, upper, work, merged } = held;
  return { id, bundle, lower, upper, work, merged };
}

async function requireEmpty(directory: string): Promise<void> {
  const names = await readdir(directory).catch((error: { code?: string }) => {
    if (error.code === "ENOENT") return [];
    throw new SkimError("USAGE", `bundle directory ${directory} cannot be used`, { cause: error });
  });
  if (names.length > 0) {
    throw new SkimError(
      "USAGE",
      `bundle directory ${directory} is not empty (${names.slice(0, 3).join(", ")}); give an empty one`,
    );
  }
}
