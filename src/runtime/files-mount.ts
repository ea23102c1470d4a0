/**
 * Where skim-files is inside of a gVisor sandbox, whose files nobody on the host sees: a read-only bind of the program, so that it can be started also where
 * the image has neither shell nor tools. In /dev, which is no part of the image.
 */
import { filesProgram } from "../native/files-program.js";
import type { SpecMount } from "./runtime-spec.js";

export const sandboxFilesProgram = "/dev/.skim-files";

/** Throws ENVIRONMENT where the program is not built. */
export function filesMount(): SpecMount {
  return {
    destination: sandboxFilesProgram,
    type: "bind",
    source: filesProgram(),
    options: ["bind", "ro", "nosuid", "nodev"],
  };
}
