/**
 * Wakes this thread at a time given in fractions of a millisecond. node's timers know whole milliseconds and are up to one late, which is more than a whole
 * round trip in a data centre; spinning would cost a core. A worker thread waits on a futex instead, which the kernel ends within some 50 µs.
 */
import { Worker } from "node:worker_threads";

/** Cell 0 counts changes of the time, cell 1 is set at the end. The time is on hrtime's clock, which all threads share; performance.now() is each thread's own. */
const waiter = `
const { parentPort, workerData: { changes, time } } = require("node:worker_threads");
for (;;) {
  const seen = Atomics.load(changes, 0);
  if (Atomics.load(changes, 1)) break;
  const wait = time[0] - Number(process.hrtime.bigint()) / 1e6;
  if (wait > 0) Atomics.wait(changes, 0, seen, wait);
  if (Atomics.load(changes, 0) !== seen) continue;
  parentPort.postMessage(0);
  Atomics.wait(changes, 0, seen);
}`;

export class Alarm {
  readonly #changes = new Int32Array(new SharedArrayBuffer(8));
  readonly #time = new Float64Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;
  #at = Number.POSITIVE_INFINITY;

  constructor(ring: () => void) {
    this.#time[0] = Number.POSITIVE_INFINITY;
    const workerData = { changes: this.#changes, time: this.#time };
    this.#worker = new Worker(waiter, { eval: true, workerData });
    this.#worker.unref();
    this.#worker.on("message", () => {
      this.#at = Number.POSITIVE_INFINITY;
      ring();
    });
  }

  /** Rings once, at `at` of this thread's performance.now(), instead of when it was to ring before. Infinity: never. */
  set(at: number): void {
    if (at === this.#at) return;
    this.#at = at;
    this.#time[0] = at - performance.now() + Number(process.hrtime.bigint()) / 1e6;
    this.#change();
  }

  async close(): Promise<void> {
    this.#changes[1] = 1;
    this.#change();
    await this.#worker.terminate();
  }

  #change(): void {
    Atomics.add(this.#changes, 0, 1);
    Atomics.notify(this.#changes, 0);
  }
}
