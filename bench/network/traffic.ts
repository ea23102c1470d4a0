/** What went through a proxy: sums, and the bytes to the client over time. */
export interface TrafficReport {
  readonly connections: number;
  /** HTTP request heads from the client. */
  readonly requests: number;
  readonly bytesUp: number;
  readonly bytesDown: number;
  /** `[milliseconds since the reset, bytes to the client in the step that begins there]`, in order, steps without bytes left out. */
  readonly timeline: readonly (readonly [number, number])[];
}

/** Steps of a timeline: as long as they are fewer than this, twice as long then. A plot has no more pixels. */
const stepsMax = 1024;
const firstStepMs = 4;

export class Traffic {
  connections = 0;
  requests = 0;
  bytesUp = 0;
  bytesDown = 0;
  readonly #startedAt: number;
  #stepMs = firstStepMs;
  #steps: number[] = [];

  constructor(now: number) {
    this.#startedAt = now;
  }

  addDown(now: number, bytes: number): void {
    this.bytesDown += bytes;
    while (now - this.#startedAt >= stepsMax * this.#stepMs) this.#halve();
    const step = Math.max(0, Math.floor((now - this.#startedAt) / this.#stepMs));
    this.#steps[step] = (this.#steps[step] ?? 0) + bytes;
  }

  report(): TrafficReport {
    const { connections, requests, bytesUp, bytesDown } = this;
    const timeline = Array.from(this.#steps, (bytes = 0, step) => [step * this.#stepMs, bytes] as const);
    return { connections, requests, bytesUp, bytesDown, timeline: timeline.filter(([, bytes]) => bytes > 0) };
  }

  #halve(): void {
    const steps: number[] = [];
    for (const [step, bytes = 0] of this.#steps.entries()) steps[step >> 1] = (steps[step >> 1] ?? 0) + bytes;
    this.#steps = steps;
    this.#stepMs *= 2;
  }
}

const headEnd = Buffer.from("\r\n\r\n");

/**
 * Counts HTTP/1.1 request heads in what a client sends, by the empty line at their end. A body with an empty line would count as
 * another request; those who pull images send none.
 */
export class RequestCounter {
  #tail = Buffer.alloc(0);

  /** Takes the next bytes; returns how many heads ended in them. */
  take(piece: Buffer): number {
    const bytes = this.#tail.length > 0 ? Buffer.concat([this.#tail, piece]) : piece;
    let heads = 0;
    let from = 0;
    for (let at = bytes.indexOf(headEnd); at >= 0; at = bytes.indexOf(headEnd, from)) {
      heads++;
      from = at + headEnd.length;
    }
    this.#tail = Buffer.from(bytes.subarray(Math.max(from, bytes.length - headEnd.length + 1)));
    return heads;
  }
}
