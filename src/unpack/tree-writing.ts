/**
 * Writes an image tree into an empty directory.
 *
 * The tree is final: layers have been merged in memory, so nothing is written that a later layer takes away, and no path of a tar is ever looked up
 * on disk. Four steps: all directories, from the root down; then everything else, several directories at a time; then the further names of
 * hard-linked files; and at last the attributes of directories, children before their parents, as each change in a directory would change its
 * times, and a mode of 0555 or 0000 would be in the way.
 */
import { type ByteString, byteStringOf, displayText } from "../base/byte-string.js";
import { SkimError, systemErrorCode } from "../base/errors.js";
import type { ProgressTask } from "../base/progress.js";
import { Semaphore } from "../base/semaphore.js";
import type { NativeBinding, TreeWriterHandle, TreeWritten } from "../native/binding.js";
import type { ImageTree, TreeNode } from "../tree/image-tree.js";
import { InstructionList, type SourceRange } from "./instructions.js";
import { attributesOf, type Ownership } from "./ownership.js";

/** Where the bytes of files come from: ranges of the writer's sources, or a file that is staged as a whole. */
export type FileBytes = { readonly ranges: readonly SourceRange[] } | { readonly staged: number };

export interface WriteTreeOptions {
  readonly native: Pick<NativeBinding, "treeWriterRun">;
  readonly writer: TreeWriterHandle;
  readonly tree: ImageTree;
  readonly ownership: Ownership;
  /** Of a file that has any bytes. */
  readonly bytesOf: (file: TreeNode) => FileBytes;
  /** Names the directory in errors. */
  readonly directory: string;
  /** Advanced by bytes of files. */
  readonly progress?: ProgressTask;
  readonly signal?: AbortSignal;
}

export interface WrittenTree {
  /** Inodes: files, directories, links, devices. */
  readonly files: number;
  readonly clonedBytes: number;
  readonly copiedBytes: number;
  readonly writtenBytes: number;
  /** What could not be kept, one sentence each. */
  readonly warnings: readonly string[];
}

/** What one call into the thread pool gets: some milliseconds of work. */
const BATCH_INSTRUCTION_BYTES = 64 * 1024;
const BATCH_FILE_BYTES = 16 * 1024 * 1024;
/** The pool has four threads; more of them would only wait for the filesystem's locks. */
const BATCHES_AT_ONCE = 4;
/** Paths that a warning names. */
const NAMED_MAX = 5;

/** Throws LOCAL_IO naming the path, with the system call's error as its cause; CANCELLED. What was made by then stays. */
export async function writeTree(options: WriteTreeOptions): Promise<WrittenTree> {
  return await new TreeWriting(options).run();
}

class TreeWriting {
  readonly #options: WriteTreeOptions;
  readonly #list = new InstructionList();
  readonly #places = new Semaphore(BATCHES_AT_ONCE);
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;
  #batchBytes = 0;
  /** Every inode that has been written, with its first path. */
  readonly #firstPaths = new Map<TreeNode, ByteString>();
  readonly #links: Array<readonly [directory: ByteString, name: ByteString, target: ByteString]> = [];
  #files = 0;
  readonly #totals = { clonedBytes: 0, copiedBytes: 0, writtenBytes: 0 };
  readonly #skippedDevices: string[] = [];
  /** By the attribute's name. */
  readonly #lostXattrs = new Map<string, string[]>();

  constructor(options: WriteTreeOptions) {
    this.#options = options;
  }

  async run(): Promise<WrittenTree> {
    try {
      return await this.#write();
    } finally {
      // Nobody may be writing any more when this has failed: what is there will be removed.
      this.#failure ??= { error: undefined };
      await Promise.all(this.#running);
    }
  }

  async #write(): Promise<WrittenTree> {
    const directories = directoriesOf(this.#options.tree.root);
    this.#files = directories.length;
    // A directory needs the one above it: these batches run one after the other.
    for (const [path, directory] of directories) {
      this.#enterWith(path, directory, (child) => child.type === "directory");
      for (const [name, child] of directory.children!) {
        if (child.type !== "directory") continue;
        this.#list.directory(name);
        if (await this.#flush({ ifFull: true, alone: true })) this.#list.enter(path);
      }
    }
    await this.#flush({ alone: true });

    for (const [path, directory] of directories) await this.#writeChildren(path, directory);
    await this.#flush({ alone: true });

    for (const [directory, name, target] of this.#links) {
      this.#list.enter(directory);
      this.#list.link(name, target);
      await this.#flush({ ifFull: true, alone: true });
    }
    for (const [path, directory] of directories.reverse()) {
      this.#list.enter(path);
      this.#list.finish(attributesOf(directory, this.#options.ownership, this.#lost(path)));
      await this.#flush({ ifFull: true, alone: true });
    }
    await this.#flush({ alone: true });
    return { files: this.#files, ...this.#totals, warnings: this.#warnings() };
  }

  #enterWith(path: ByteString, directory: TreeNode, wanted: (child: TreeNode) => boolean): boolean {
    for (const child of directory.children!.values()) {
      if (!wanted(child)) continue;
      this.#list.enter(path);
      return true;
    }
    return false;
  }

  async #writeChildren(path: ByteString, directory: TreeNode): Promise<void> {
    if (!this.#enterWith(path, directory, (child) => child.type !== "directory")) return;
    for (const [name, child] of directory.children!) {
      if (child.type === "directory") continue;
      const first = this.#firstPaths.get(child);
      const childPath = joined(path, name);
      if (first !== undefined) {
        this.#links.push([path, name, first]);
        continue;
      }
      this.#firstPaths.set(child, childPath);
      this.#files++;
      this.#writeNode(name, child, childPath);
      if (await this.#flush({ ifFull: true })) this.#list.enter(path);
    }
  }

  #writeNode(name: ByteString, node: TreeNode, path: ByteString): void {
    const list = this.#list;
    const { ownership, bytesOf } = this.#options;
    const attributes = attributesOf(node, ownership, this.#lost(path));
    switch (node.type) {
      case "file": {
        this.#batchBytes += node.fileBytes;
        const hasData = node.extents.some(({ length }) => length > 0);
        const bytes: FileBytes = hasData ? bytesOf(node) : { ranges: [] };
        if ("staged" in bytes) list.staged(name, attributes, node.fileBytes, bytes.staged);
        else list.file(name, attributes, node.fileBytes, bytes.ranges);
        return;
      }
      case "symlink":
        list.symlink(name, attributes, node.linkTarget);
        return;
      case "character":
      case "block":
        if (ownership === "recorded") this.#skippedDevices.push(displayText(path));
        else list.special(name, attributes, node.type, node);
        return;
      case "fifo":
        list.special(name, attributes, node.type, node);
        return;
      case "directory":
        return;
    }
  }

  /**
   * Hands over what the list has, or, `ifFull`, only if that is enough for a batch; true where it did. `alone`: when all batches before have
   * ended, and not before this one has.
   */
  async #flush(how: { readonly ifFull?: boolean; readonly alone?: boolean }): Promise<boolean> {
    const full = this.#list.bytes >= BATCH_INSTRUCTION_BYTES || this.#batchBytes >= BATCH_FILE_BYTES;
    if (how.ifFull && !full) return false;
    if (how.alone) await Promise.all(this.#running);
    this.#check();
    if (this.#list.bytes === 0) return false;
    const instructions = this.#list.take();
    const fileBytes = this.#batchBytes;
    this.#batchBytes = 0;
    let begin: () => void = () => {};
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const batch = this.#places
      .run(async () => {
        begin();
        await this.#runBatch(instructions, fileBytes);
      })
      .finally(() => this.#running.delete(batch));
    this.#running.add(batch);
    // No more instructions are made than can be obeyed soon.
    await (how.alone ? batch : begun);
    this.#check();
    return true;
  }

  async #runBatch(instructions: Uint8Array, fileBytes: number): Promise<void> {
    if (this.#failure) return;
    try {
      const { native, writer, progress } = this.#options;
      this.#add(await native.treeWriterRun(writer, instructions));
      progress?.advance(fileBytes);
    } catch (error) {
      this.#failure ??= { error };
    }
  }

  #add(written: TreeWritten): void {
    this.#totals.clonedBytes += written.clonedBytes;
    this.#totals.copiedBytes += written.copiedBytes;
    this.#totals.writtenBytes += written.writtenBytes;
    const skipped = byteStringOf(written.skipped).split("\0") as ByteString[];
    for (let at = 0; at + 1 < skipped.length; at++) {
      const path = skipped[at]!.slice(1) as ByteString;
      if (skipped[at]!.startsWith("d")) this.#skippedDevices.push(displayText(path));
      else this.#lost(path)(skipped[++at]!);
    }
  }

  #lost(path: ByteString): (xattr: ByteString) => void {
    return (xattr) => {
      const name = displayText(xattr);
      const paths = this.#lostXattrs.get(name) ?? [];
      this.#lostXattrs.set(name, paths);
      paths.push(displayText(path));
    };
  }

  #check(): void {
    const { signal, directory } = this.#options;
    if (signal?.aborted)
      throw new SkimError("CANCELLED", `writing ${directory} was cancelled`, { cause: signal.reason });
    if (!this.#failure) return;
    const cause = this.#failure.error;
    const code = systemErrorCode(cause);
    if (code === undefined || !(cause instanceof Error) || !("syscall" in cause)) throw cause;
    const path = (cause as { path?: string }).path || "/";
    throw new SkimError("LOCAL_IO", `cannot write ${path} of the image below ${directory}: ${code}`, {
      cause,
    });
  }

  #warnings(): string[] {
    const warnings: string[] = [];
    if (this.#skippedDevices.length > 0)
      warnings.push(
        `device nodes were left out, since only root can make them: ${firstOf(this.#skippedDevices)}`,
      );
    for (const [name, paths] of this.#lostXattrs)
      warnings.push(
        this.#options.ownership === "recorded" && /^(trusted|security)\./.test(name)
          ? `the extended attribute ${name} was left out, since only root can set it: ${firstOf(paths)}`
          : `the extended attribute ${name} was left out, since the filesystem of ${this.#options.directory} cannot hold it: ${firstOf(paths)}`,
      );
    return warnings;
  }
}

/** All directories with their paths from the root (empty for the root itself), each after the one above it. */
function directoriesOf(root: TreeNode): Array<readonly [path: ByteString, directory: TreeNode]> {
  const directories: Array<readonly [path: ByteString, directory: TreeNode]> = [["" as ByteString, root]];
  for (let at = 0; at < directories.length; at++) {
    const [path, directory] = directories[at]!;
    for (const [name, child] of directory.children!)
      if (child.type === "directory") directories.push([joined(path, name), child]);
  }
  return directories;
}

function joined(path: ByteString, name: ByteString): ByteString {
  return (path === "" ? name : `${path}/${name}`) as ByteString;
}

function firstOf(paths: readonly string[]): string {
  const named = paths.slice(0, NAMED_MAX).map((path) => path || "/");
  const more = paths.length - named.length;
  return more > 0 ? `${named.join(", ")} and ${more} more` : named.join(", ");
}
