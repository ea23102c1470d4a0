import type { FuseEngineName } from "./engine-names.js";
import { FuseNativeEngine } from "./fuse-native-engine.js";
import type { FuseEngine } from "./fuse-session.js";
import { NativeEngine } from "./native-engine.js";

/** The engine of that name. Loads nothing yet: what it needs is looked for when it mounts. */
export function openEngine(name: FuseEngineName): FuseEngine {
  return name === "native" ? new NativeEngine() : new FuseNativeEngine();
}
