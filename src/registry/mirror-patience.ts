import { SkimError } from "../base/errors.js";

/** What a mirror has to bring within its time limit, to get that time again: below this it only drips. */
const progressBytesMin = 64 * 1024;

/**
 * The time limit of one attempt at a mirror, which is shorter than that of the origin: there is somebody else to ask. It holds until the first
 * 64 KiB, then for each further 64 KiB; time in which the caller does other things than wait for the mirror does not count.
 */
export class MirrorPatience {
  readonly signal: AbortSignal;
  readonly #limitMs: number;
  readonly #abort = new AbortController();
  readonly #host: string;
  readonly #caller: AbortSignal;
  readonly #follow = () => this.#abort.abort(this.#caller.reason);
  #leftMs: number;
  #waitingSince = 0;
  #timer: NodeJS.Timeout | undefined;
  #bytes = 0;

  /** Starts to wait. Fires with the reason of `caller` when that fires first. To be ended. */
  constructor(host: string, limitMs: number, caller: AbortSignal) {
    this.#host = host;
    this.#limitMs = limitMs;
    this.#leftMs = limitMs;
    this.#caller = caller;
    this.signal = this.#abort.signal;
    if (caller.aborted) this.#follow();
    else caller.addEventListener("abort", this.#follow, { once: true });
    this.wait();
  }

  /** The caller waits for the mirror. */
  wait(): void {
    this.#waitingSince = performance.now();
    this.#timer = setTimeout(() => this.#abort.abort(this.#late()), this.#leftMs);
  }

  /** The mirror has brought this much; the caller is busy with it until the next `wait`. */
  brought(bytes: number): void {
    clearTimeout(this.#timer);
    this.#bytes += bytes;
    this.#leftMs = Math.max(1, this.#leftMs - (performance.now() - this.#waitingSince));
    if (this.#bytes < progressBytesMin) return;
    this.#bytes = 0;
    this.#leftMs = this.#limitMs;
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#caller.removeEventListener("abort", this.#follow);
  }

  #late(): SkimError {
    const found = `brought less than ${progressBytesMin} bytes in ${this.#limitMs} ms`;
    return new SkimError("REGISTRY_UNAVAILABLE", `mirror ${this.#host} ${found}`);
  }
}
