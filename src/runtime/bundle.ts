import { mkdir, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { SkimError } from "../base/errors.js";
import type { RuntimeSpec } from "./runtime-spec.js";

/**
 * Writes `directory`/config.json, and `files` (by their names) beside it, which the container may read (mode 0644). config.json: mode 0600: the environment often holds secrets), making the directory if need be (0700).
 * The bundle must not lie in the rootfs, where the container could read it. Throws USAGE for that, and LOCAL_IO.
 */
export async function writeBundle(
  directory: string,
  spec: RuntimeSpec,
  files: Readonly<Record<string, string>> = {},
): Promise<void> {
  const bundle = path.resolve(directory);
  const rootfs = path.resolve(bundle, spec.root.path);
  if (bundle === rootfs || bundle.startsWith(`${rootfs}/`)) {
    throw new SkimError("USAGE", `bundle ${bundle} lies in its rootfs ${rootfs}; use a directory outside`);
  }
  const file = path.join(bundle, "config.json");
  try {
    await mkdir(bundle, { recursive: true, mode: 0o700 });
    for (const [name, text] of Object.entries(files))
      await writeFile(path.join(bundle, name), text, { mode: 0o644 });
    await writeFile(`${file}.new`, `${JSON.stringify(spec, null, 2)}\n`, { mode: 0o600 });
    await rename(`${file}.new`, file);
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `bundle ${bundle} cannot be written`, { cause });
  }
}
