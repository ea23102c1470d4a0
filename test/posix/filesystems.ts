/**
 * The filesystems that hold the tree: tmpfs and ext4, which say what is right, and a mount of skim for each engine. All are
 * read-only in the kernel, and their root is the root of the tree.
 */
import { chmod, mkdir, open, readFile } from "node:fs/promises";
import path from "node:path";
import { type EngineName, engines } from "../support/engines.js";
import { FuseServer, makeImage, run } from "../support/fuse-mount.js";
import { type DescribedTree, writeTree } from "../support/write-tree.js";

export interface MountedTree {
  readonly root: string;
  unmount(): Promise<void>;
}

export interface TestFilesystem {
  readonly name: "tmpfs" | "ext4" | EngineName;
  /** Mounts below the empty directory `dir`, which readers that are not root must be able to pass. */
  mount(dir: string, tree: DescribedTree): Promise<MountedTree>;
}

/** For 10,000 names and some megabytes; sparse in the filesystem that holds it. */
const ext4Bytes = 64 * 1024 * 1024;

const tmpfs: TestFilesystem = {
  name: "tmpfs",
  mount: (dir, tree) => mountWritten(dir, tree, ["-t", "tmpfs", "-o", "mode=755", "skim-test"]),
};

const ext4: TestFilesystem = {
  name: "ext4",
  async mount(dir, tree) {
    const image = path.join(dir, "ext4.img");
    const file = await open(image, "w");
    await file.truncate(ext4Bytes);
    await file.close();
    // ea_inode: attributes of 64 KiB. Inodes of 256 bytes: nanoseconds. Blocks of 4096 bytes: symlinks of 4095.
    const features = ["-O", "ea_inode", "-N", "12000", "-I", "256", "-b", "4096"];
    await must("mkfs.ext4", "-q", "-F", ...features, image);
    // `loop` lets go of the device when the mount ends, however it ends.
    return await mountWritten(dir, tree, ["-t", "ext4", "-o", "loop", image]);
  },
};

const skim = (engine: EngineName): TestFilesystem => ({
  name: engine,
  async mount(dir, { root, bytes }) {
    const server = await FuseServer.mount({ ...(await makeImage(dir, root, bytes)), engine });
    return { root: server.mountpoint, unmount: () => server.close() };
  },
});

export const filesystems: readonly TestFilesystem[] = [tmpfs, ext4, ...engines.map(skim)];

/** Unmounts whatever is mounted below `dir`: for afterAll. */
export async function unmountBelow(dir: string): Promise<void> {
  for (const mountpoint of (await mountsBelow(dir)).reverse()) await run("umount", ["-l", mountpoint]);
}

export async function mountsBelow(dir: string): Promise<string[]> {
  // proc_pid_mountinfo(5): the fifth field, spaces and the like as octal.
  return (await readFile("/proc/self/mountinfo", "latin1"))
    .split("\n")
    .map((line) =>
      (line.split(" ")[4] ?? "").replace(/\\(\d{3})/g, (_, digits) =>
        String.fromCharCode(Number.parseInt(digits, 8)),
      ),
    )
    .filter((mountpoint) => mountpoint.startsWith(`${dir}/`));
}

/** A plain filesystem with the tree in it, made read-only when it is written. */
async function mountWritten(
  dir: string,
  tree: DescribedTree,
  mountArgs: readonly string[],
): Promise<MountedTree> {
  const root = path.join(dir, "mount");
  await mkdir(root);
  await must("mount", ...mountArgs, root);
  await run("rmdir", [path.join(root, "lost+found")]);
  await writeTree(root, tree, path.join(dir, "layer"));
  await must("mount", "-o", "remount,ro", root);
  return { root, unmount: async () => must("umount", root) };
}

/** A directory for one filesystem. */
export async function makeRoom(dir: string, name: string): Promise<string> {
  await chmod(dir, 0o755);
  const room = path.join(dir, name);
  await mkdir(room);
  return room;
}

async function must(program: string, ...args: readonly string[]): Promise<void> {
  const { code, stderr } = await run(program, args);
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${code}: ${stderr}`);
}
