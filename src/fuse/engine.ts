import { SkimError } from "../base/errors.js";
import { FuseNativeEngine } from "./fuse-native-engine.js";
import type { FuseEngine } from "./fuse-session.js";

export type FuseEngineName = FuseEngine["name"];

/** The engine of that name. Loads nothing yet: what it needs is looked for when it mounts. Throws USAGE for one that is not there. */
export function openEngine(name: FuseEngineName): FuseEngine {
  if (name === "fuse-native") return new FuseNativeEngine();
  throw new SkimError("USAGE", `this version has no ${name} engine; choose --engine fuse-native`);
}
