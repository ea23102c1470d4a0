import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll } from "vitest";

/** A new directory that is removed after the test file, or earlier by `remove`. */
export async function makeTempDir(label = "test"): Promise<string> {
  const dir = await mkdtemp(path.join(tmpdir(), `skim-${label}-`));
  made.add(dir);
  return dir;
}

export async function removeTempDir(dir: string): Promise<void> {
  made.delete(dir);
  await rm(dir, { recursive: true, force: true, maxRetries: 3 });
}

const made = new Set<string>();

afterAll(async () => {
  for (const dir of [...made]) await removeTempDir(dir);
});
