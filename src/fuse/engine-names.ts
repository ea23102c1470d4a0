/** In the order of preference: the first one is used where none is named. */
export const fuseEngineNames = ["native", "fuse-native"] as const;

export type FuseEngineName = (typeof fuseEngineNames)[number];
