/**
 * What eviction must leave alone: one file a pin, `<cacheDir>/pins/<sha256 of its name>.json`, with the name it was given and the digests of its layers (of blobs
 * and of their contents, since the stores go by either). Unlike everything else in the cache directory a pin is somebody's word, so it is synced.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { SkimError, systemErrorCode } from "../base/errors.js";

const pinSchema = z.object({
  pinVersion: z.literal(1),
  /** As it was given to `skim cache pin`: an image or a digest. */
  name: z.string(),
  /** Digests of layers and diffIds. */
  layers: z.array(z.string()),
});

export type Pin = Omit<z.infer<typeof pinSchema>, "pinVersion">;

export interface Pins {
  /** By name. */
  readonly pins: readonly Pin[];
  /** All that is pinned, with the names it is pinned by. */
  readonly layers: ReadonlyMap<string, readonly string[]>;
}

/** Throws LOCAL_IO for a pin that cannot be understood: to take it for none would let its layers go. */
export async function readPins(cacheDir: string): Promise<Pins> {
  const directory = pinsDirectory(cacheDir);
  const names = await readdir(directory).catch((error: unknown) => {
    if (systemErrorCode(error) === "ENOENT") return [];
    throw error;
  });
  const pins: Pin[] = [];
  for (const name of names.filter((one) => one.endsWith(".json")).sort()) {
    const pin = await readPin(path.join(directory, name));
    if (pin) pins.push(pin);
  }
  pins.sort((a, b) => (a.name < b.name ? -1 : 1));
  const layers = new Map<string, string[]>();
  for (const pin of pins)
    for (const digest of pin.layers) layers.set(digest, [...(layers.get(digest) ?? []), pin.name]);
  return { pins, layers };
}

/** In place of a pin of the same name. It outlives a crash from the moment on that this resolves. */
export async function writePin(cacheDir: string, pin: Pin): Promise<void> {
  const directory = pinsDirectory(cacheDir);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const file = pinFile(cacheDir, pin.name);
  const beside = `${file}.tmp-${randomBytes(8).toString("hex")}`;
  try {
    const handle = await open(beside, "wx", 0o600);
    try {
      await handle.writeFile(`${JSON.stringify({ pinVersion: 1, ...pin }, null, 1)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(beside, file);
  } finally {
    await rm(beside, { force: true });
  }
  await syncDirectory(directory);
}

/** Throws NOT_FOUND. */
export async function removePin(cacheDir: string, name: string): Promise<void> {
  try {
    await rm(pinFile(cacheDir, name));
  } catch (cause) {
    if (systemErrorCode(cause) !== "ENOENT") throw cause;
    const { pins } = await readPins(cacheDir);
    const there = pins.map((pin) => pin.name).join(", ") || "nothing";
    throw new SkimError("NOT_FOUND", `${name} is not pinned in ${cacheDir}; pinned: ${there}`);
  }
  await syncDirectory(pinsDirectory(cacheDir));
}

function pinsDirectory(cacheDir: string): string {
  return path.join(cacheDir, "pins");
}

function pinFile(cacheDir: string, name: string): string {
  const hex = createHash("sha256").update(name).digest("hex");
  return path.join(pinsDirectory(cacheDir), `${hex.slice(0, 32)}.json`);
}

async function readPin(file: string): Promise<Pin | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    return pinSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `pin ${file} cannot be understood; remove the file and pin again`, {
      cause,
    });
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
