/** When a start got how far: by name, in the time of monotonicMs, so that marks of several processes lie on one line. */
import { monotonicMs } from "./monotonic-clock.js";

/** In the order in which a start comes by them. Processes are written behind: the one that mounts (m) and the one that serves (s). */
export const startMarkNames = [
  /** m: The command, or the call of the library, began. */
  "begun",
  /** m: It looks for the image: skim itself is loaded. */
  "searching",
  /** m: What the name means is known; the registry was asked where it had to be. */
  "resolved",
  /** m: The archive is open; the image was indexed where it had to be. */
  "opened",
  /** m: The server was told what to serve. */
  "launched",
  /** s: It has heard it. */
  "told",
  /** s: It has opened the archive, the cache and the source. */
  "serverOpened",
  /** s: The kernel has the mount: FUSE_INIT is answered. */
  "mounted",
  /** m: A stat through the mount has come back. */
  "ready",
  /** m: The overlay is mounted. */
  "overlaid",
  /** m: The bundle is written, and the runtime is started. */
  "started",
] as const;

export type StartMark = (typeof startMarkNames)[number];
export type StartMoments = Readonly<Partial<Record<StartMark, number>>>;

export class StartMarks {
  readonly #moments: Partial<Record<StartMark, number>> = {};

  constructor(moments: StartMoments = {}) {
    Object.assign(this.#moments, moments);
  }

  /** Now, or `momentMs`. The first time counts. */
  set(mark: StartMark, momentMs: number = monotonicMs()): void {
    this.#moments[mark] ??= momentMs;
  }

  snapshot(): StartMoments {
    return { ...this.#moments };
  }
}
