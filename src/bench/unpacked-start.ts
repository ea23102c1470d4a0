/** A start of an image that is unpacked already: under runc alone, with the config that `skim run` would give the container. */
import path from "node:path";
import type { Archive } from "../archive/archive.js";
import { planContainer } from "../mount/container-plan.js";
import { newMountId } from "../mount/mount-record.js";
import { writeBundle } from "../runtime/bundle.js";
import { type FirstLine, type FirstLineOptions, runToFirstLine } from "./first-line.js";

export interface UnpackedImageStart {
  /** Of the image: its config, and where its accounts are. */
  readonly archive: Archive;
  /** The unpacked tree. The container writes to it. */
  readonly tree: string;
  /** A directory beside the tree; gets the bundle and the runtime's state. */
  readonly place: string;
  /** Instead of the image's command; empty: the image's. */
  readonly command: readonly string[];
}

/** Throws what planning a container throws, and RUNTIME_FAILED. */
export async function runUnpacked(start: UnpackedImageStart, options: FirstLineOptions): Promise<FirstLine> {
  const { archive, tree, place, command } = start;
  const plan = planContainer({ terminal: false, ...(command.length > 0 ? { args: command } : {}) });
  await plan.prepare({ archive, lower: tree });
  const bundle = path.join(place, "bundle");
  await writeBundle(bundle, plan.spec(tree, bundle), plan.files);
  const state = ["--root", path.join(place, "state")];
  return await runToFirstLine("runc", [...state, "run", "--bundle", bundle, newMountId("run")], options);
}
