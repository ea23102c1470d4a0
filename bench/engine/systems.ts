/**
 * What is measured: the same tree on an ext4, and mounted by each engine. One round of anything is: mount the tree anew, overlay it,
 * do the thing, take it all down.
 */
import { mkdtemp, rmdir } from "node:fs/promises";
import path from "node:path";
import { UndoStack } from "../../src/base/undo-stack.js";
import type { Ext4Image } from "../support/ext4-image.js";
import { mountOverlay, type Overlay } from "../support/overlay.js";
import { run } from "../support/processes.js";
import type { BenchServer } from "./server.js";

export interface MountedTree {
  /** Root of the tree. */
  readonly root: string;
  /** FUSE requests so far; none where there is no FUSE. */
  operations(): Promise<Readonly<Record<string, number>>>;
  close(): Promise<void>;
}

export interface System {
  /** As the table shows it. */
  readonly name: string;
  /** Mounts the tree anew at `directory`, which is empty: nothing of it is known to the kernel yet. */
  mount(directory: string): Promise<MountedTree>;
}

/** The tree in `subdirectory` of an ext4. */
export function ext4System(image: Ext4Image, subdirectory: string): System {
  return {
    name: "ext4",
    async mount(directory) {
      await image.mount(directory);
      return {
        root: path.join(directory, subdirectory),
        operations: async () => ({}),
        close: () => image.umount(directory),
      };
    },
  };
}

/** The image that `server` has open, mounted by its engine. */
export function fuseSystem(server: BenchServer, name: string = server.engine): System {
  return {
    name,
    async mount(directory) {
      await server.ask("mount", { engine: server.engine, mountpoint: directory });
      return {
        root: directory,
        operations: () => server.ask("operations", {}),
        close: () => unmount(server, directory),
      };
    },
  };
}

/** Where the engine cannot unmount, its process is of no use any more: killed, it leaves a dead mount, which can be detached. */
async function unmount(server: BenchServer, directory: string): Promise<void> {
  try {
    await server.ask("unmount", { force: false });
  } catch (error) {
    await server.kill();
    await run("umount", ["--lazy", directory]).catch(() => {});
    throw error;
  }
}

/** One that has mounted and overlaid a tree. */
export interface Stage {
  readonly merged: string;
  readonly overlay: Overlay;
  readonly tree: MountedTree;
}

/** Mounts the system's tree below an overlay, both new, hands it to `work`, and takes both down whatever happens. */
export async function onStage<T>(
  system: System,
  workDir: string,
  work: (stage: Stage) => Promise<T>,
): Promise<T> {
  const undo = new UndoStack();
  const result = await undo.guard(async () => {
    const lower = await mkdtemp(path.join(workDir, "lower-"));
    undo.defer(() => rmdir(lower));
    const tree = await system.mount(lower);
    undo.defer(() => tree.close());
    const overlay = await mountOverlay(tree.root, workDir);
    undo.defer(() => overlay.close());
    return await work({ merged: overlay.merged, overlay, tree });
  });
  await undo.unwind();
  return result;
}
