/** An overlay of an empty upper on a lower, with the options skim mounts its own with. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import path from "node:path";
import { loadNative } from "../../src/native/load.js";
import { overlayOptions } from "../../src/overlay/mount-options.js";

export interface Overlay {
  readonly merged: string;
  close(): Promise<void>;
}

/** Mounts; upper, work and merged are made below `workDir`, and gone after `close`. */
export async function mountOverlay(lower: string, workDir: string): Promise<Overlay> {
  const native = loadNative();
  const directory = await mkdtemp(path.join(workDir, "overlay-"));
  const paths = { lower, upper: path.join(directory, "upper"), work: path.join(directory, "work") };
  const merged = path.join(directory, "merged");
  for (const made of [paths.upper, paths.work, merged]) await mkdir(made);
  await native.mount("overlay", merged, "overlay", 0, overlayOptions(paths, false));
  return {
    merged,
    close: async () => {
      await native.umount(merged, 0);
      await rm(directory, { recursive: true });
    },
  };
}
