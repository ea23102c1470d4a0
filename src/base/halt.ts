/**
 * Where a test can kill this process: between any two steps of mounting and unmounting. What is left then must be found and undone by whoever comes next
 * (test/control/killed-between-steps.test.ts goes through all of them).
 */
export const haltingPoints = {
  mounting: [
    "record-created",
    "image-recorded",
    "image-connected",
    "image-served",
    "image-completed",
    "upper-made",
    "upper-seeded",
    "overlay-mounted",
    "rootfs-completed",
  ],
  unmounting: [
    "overlay-unmounted",
    "overlay-undone",
    "directories-removed",
    "upper-removed",
    "record-removed",
    "image-unmounted",
  ],
} as const;
export type HaltingPoint = (typeof haltingPoints)[keyof typeof haltingPoints][number];

/** SIGKILL to this process where SKIM_HALT_AT names this point; otherwise nothing. */
export function haltAt(point: HaltingPoint): void {
  if (process.env.SKIM_HALT_AT === point) process.kill(process.pid, "SIGKILL");
}
