/**
 * One clock for all processes of this host: CLOCK_MONOTONIC, which is what process.hrtime reads. Times that one process notes mean the same to another, and setting the
 * wall clock changes none of them. Milliseconds since the host came up; not to be kept over its restart.
 */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** When this process began, before anything of it was loaded. */
export function processBeganMs(): number {
  return monotonicMs() - performance.now();
}

/** Of the wall clock as it is set now. */
export function wallClockOf(momentMs: number): Date {
  return new Date(Date.now() - (monotonicMs() - momentMs));
}
