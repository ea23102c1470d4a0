import { existsSync } from "node:fs";
import path from "node:path";
import { SkimError } from "../base/errors.js";

const packageDir = path.resolve(import.meta.dirname, "../..");

/** The static program that reads and writes files below a container's root (native/README.md, "skim-files"). Throws ENVIRONMENT where it is not built. */
export function filesProgram(): string {
  const file = path.join(packageDir, "native/build/Release/skim-files");
  if (existsSync(file)) return file;
  throw new SkimError(
    "ENVIRONMENT",
    `${file} is not there; build it with: cd ${packageDir} && npm run build:native`,
  );
}
