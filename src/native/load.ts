/**
 * Finds and loads the native addon, once.
 *
 * The addon is built in the package, at native/build/Release/skim.node. This file is two directories below the package's root
 * in src/ as well as in dist/, so one relative path serves both.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { SkimError } from "../base/errors.js";
import type { NativeBinding } from "./binding.js";

const packageDir = path.resolve(import.meta.dirname, "../..");
const addonFile = path.join(packageDir, "native/build/Release/skim.node");
const holderFile = path.join(packageDir, "native/build/Release/skim-holder");

let loaded: NativeBinding | undefined;

/** The native addon. Throws ENVIRONMENT, with the command that mends it, where it is not built or cannot be loaded. */
export function loadNative(): NativeBinding {
  loaded ??= loadAddon(addonFile);
  return loaded;
}

/** The program that is built beside the addon (native/holder). Throws ENVIRONMENT where it is not. */
export function findHolderProgram(): string {
  if (!existsSync(holderFile))
    throw new SkimError(
      "ENVIRONMENT",
      `skim-holder cannot be started: ${holderFile} is not there; build it with: cd ${packageDir} && npm run build:native`,
    );
  return holderFile;
}

/** As `loadNative`, for the addon at `file`, every time anew. */
export function loadAddon(file: string): NativeBinding {
  if (!existsSync(file))
    throw new SkimError(
      "ENVIRONMENT",
      `the native addon cannot be loaded: ${file} is not there; build it with: cd ${packageDir} && npm run build:native`,
    );
  try {
    return createRequire(import.meta.url)(file) as NativeBinding;
  } catch (cause) {
    throw new SkimError("ENVIRONMENT", `the native addon ${file} cannot be loaded: ${remedy(cause)}`, {
      cause,
    });
  }
}

/** What the dynamic loader found, and the command against it. */
function remedy(cause: unknown): string {
  const found = cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : String(cause);
  if (/libzstd\.so\.1: cannot open/.test(found))
    return "libzstd.so.1 is missing; apt-get install -y libzstd1";
  // Built for another processor, C library or Node ABI, or cut short.
  return `${found}; build it again with: cd ${packageDir} && npm run build:native`;
}
