/** What the benchmark asks of the process that serves its mounts; see server-main.ts. */
import type { FuseEngineName } from "../../src/fuse/engine-names.js";

/** Each request with what it takes; the answer is below. */
export interface ServerRequests {
  /** Opens an archive and its content over a cache directory. There is one at a time; it stays open for any number of mounts. */
  open: { readonly archive: string; readonly cacheDir: string };
  mount: { readonly engine: FuseEngineName; readonly mountpoint: string };
  unmount: { readonly force: boolean };
  /** FUSE requests of the mount so far. */
  operations: Record<string, never>;
  /** Requests to the image's source since it was opened: 0 as long as the cache has everything. */
  fetches: Record<string, never>;
  /** Closes what `open` has opened, everything written to the cache. */
  close: Record<string, never>;
}

export interface ServerAnswers {
  /** Reading and checking the archive, without its content. */
  open: { readonly archiveMs: number };
  mount: Record<string, never>;
  unmount: Record<string, never>;
  operations: Readonly<Record<string, number>>;
  fetches: { readonly requests: number };
  close: Record<string, never>;
}

export type ServerMethod = keyof ServerRequests;
