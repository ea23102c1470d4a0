/**
 * How a bind mount becomes read-only with all that is mounted below its source. `ro` is about the topmost mount alone under runc and crun, as mount(8) has it;
 * `rro` takes mount_setattr(2), of Linux 5.12, and a runtime that knows the word: others refuse the bundle. Under runsc `ro` is for all of it, because for
 * gVisor a bind is one mount. Source: runtime-spec, config.md, "Linux mount options".
 */
import { execFile } from "node:child_process";
import { release } from "node:os";
import { promisify } from "node:util";
import type { RuntimeName } from "./runtime-command.js";
import type { SpecMount } from "./runtime-spec.js";

const execute = promisify(execFile);

/** `mounts` with the option that the runtime installed here can do; without a runtime nobody knows, and they stay as they are. */
export async function readOnlyInDepth(
  mounts: readonly SpecMount[],
  runtime: RuntimeName | undefined,
): Promise<readonly SpecMount[]> {
  const isMeant = ({ options }: SpecMount) => options.includes("rbind") && options.includes("ro");
  if (!mounts.some(isMeant) || !(await knowsRecursive(runtime))) return mounts;
  return mounts.map((mount) =>
    isMeant(mount)
      ? { ...mount, options: mount.options.map((option) => (option === "ro" ? "rro" : option)) }
      : mount,
  );
}

async function knowsRecursive(runtime: RuntimeName | undefined): Promise<boolean> {
  if (!isAtLeast(release(), 5, 12)) return false;
  switch (runtime) {
    case "runc":
      return /"rro"/.test(await output("runc", "features"));
    case "crun":
      // It has no `features` yet; 1.8 is the oldest that was seen to do it.
      return isAtLeast(/crun version (\S+)/.exec(await output("crun", "--version"))?.[1] ?? "", 1, 8);
    default:
      return false;
  }
}

function isAtLeast(version: string, major: number, minor: number): boolean {
  const [foundMajor = 0, foundMinor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  return foundMajor > major || (foundMajor === major && foundMinor >= minor);
}

/** Empty where it cannot be run: whoever starts the container says why. */
async function output(program: string, word: string): Promise<string> {
  return await execute(program, [word]).then(
    ({ stdout }) => stdout,
    () => "",
  );
}
