/**
 * A process that makes system calls on mounts for a server: mount(2), umount2(2), stat(2).
 *
 * mount(2) of an overlay asks its FUSE lower for statfs, that is, the server itself. A server that is killed while a thread of its own waits for that answer
 * cannot die before a successor has answered, so a process that serves mounts must never make such calls itself.
 */
import { invariant } from "../base/errors.js";

export class Mounter {
  static start(): Mounter {
    return new Mounter();
  }

  /** mount(2). Throws as NativeBinding.mount does. */
  async mount(_source: string, _target: string, _type: string, _flags: number, _data: string): Promise<void> {
    invariant(false, "a mounter is built");
  }

  /** umount2(2). Throws as NativeBinding.umount does. */
  async umount(_target: string, _flags: number): Promise<void> {
    invariant(false, "a mounter is built");
  }

  /** stat(2): asks whoever serves the mount at `path`. Throws an Error with `code`, `errno`, `syscall` and `path`. */
  async statRoot(_path: string): Promise<{ inode: number; device: number }> {
    invariant(false, "a mounter is built");
  }

  /** No more requests; resolves when those under way are answered and the process is gone. */
  async close(): Promise<void> {}
}
