/** Containers of unpacked trees, by runc alone. */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { type FirstLine, runToFirstLine } from "../../src/bench/first-line.js";
import { run } from "../support/processes.js";

let containers = 0;

/** Runs `command` in the tree `rootfs`, from a bundle in the new directory `bundle`, which is removed. */
export async function runUnderRunc(
  bundle: string,
  rootfs: string,
  command: readonly string[],
  signal: AbortSignal,
): Promise<FirstLine> {
  await writeBundle(bundle, rootfs, command, signal);
  try {
    const id = `skim-bench-${process.pid}-${containers++}`;
    return await runToFirstLine("runc", ["run", "--bundle", bundle, id], { signal });
  } finally {
    await rm(bundle, { recursive: true });
  }
}

/** What `runc spec` makes, without its terminal; the tree is read-only, so that several containers can share it. */
async function writeBundle(
  bundle: string,
  rootfs: string,
  command: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await mkdir(bundle);
  await run("runc", ["spec", "--bundle", bundle], { signal });
  const file = path.join(bundle, "config.json");
  const spec = JSON.parse(await readFile(file, "utf8"));
  Object.assign(spec.process, { terminal: false, args: command });
  spec.root = { path: rootfs, readonly: true };
  await writeFile(file, JSON.stringify(spec));
}
