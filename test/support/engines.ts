/** The FUSE engines that tests of real mounts run with, one after the other. */
export const engines = ["native", "fuse-native"] as const;

export type EngineName = (typeof engines)[number];
