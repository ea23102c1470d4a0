/** Images that every way refuses: with the same words, and leaving nothing. */
import { lstat, mkdir, readdir, rm, rmdir, stat } from "node:fs/promises";
import path from "node:path";
import { expect, it } from "vitest";
import type { ErrorCode } from "../../src/base/errors.js";
import type { SettingsInput } from "../../src/base/settings.js";
import { readMountTable } from "../../src/fuse/mount-table.js";
import { mountImage, umountImage } from "../../src/mount/mount-image.js";
import { unpackImage } from "../../src/mount/unpack-image.js";
import { stampFile } from "../../src/unpack/stamp.js";
import { engines } from "../support/engines.js";
import type { TestLayer } from "../support/oci-layout.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type ImageLayout, unpackModes, writeLayout } from "./four-ways.js";

export interface Refusal {
  readonly code: ErrorCode;
  readonly message: RegExp;
  /** Limits, lower than they are otherwise. */
  readonly settings?: SettingsInput;
  /** Where directories to unpack to are named (they are not made); default: one of their own. */
  readonly room?: string;
}

/** One test: every way refuses the image of these layers, and nothing of it is left. */
export function refused(claim: string, layers: () => readonly TestLayer[], refusal: Refusal): void {
  it(claim, async () => await expectRefused(await writeLayout(layers()), refusal));
}

export async function expectRefused({ dir, name }: ImageLayout, refusal: Refusal): Promise<void> {
  for (const engine of engines) {
    const own = path.join(dir, engine);
    const settings = settingsBelow(own, refusal);
    const directory = await makeTempDir("mount");
    // A mount that should not be there must not stay.
    const mounting = mountImage({ image: name, directory, engine, settings }).then(() =>
      umountImage(directory, { settings }),
    );
    await expectFailure(`mount by ${engine}`, mounting, refusal);
    expect(await readdir(directory)).toEqual([]);
    await expectNoRemains(own);
  }
  const room = refusal.room ?? (await makeTempDir("refused"));
  for (const mode of unpackModes) {
    const own = path.join(dir, mode);
    const settings = settingsBelow(own, refusal);
    const directory = path.join(room, mode);
    const unpack = () => unpackImage({ image: name, directory, mode, settings });
    const before = await readdir(room);
    await expectFailure(`unpacking in ${mode} mode`, unpack(), refusal);
    await removeStamp(directory);
    expect(await readdir(room)).toEqual(before);

    await mkdir(directory, { mode: 0o700 });
    const empty = await identityOf(directory);
    await expectFailure(`unpacking in ${mode} mode into an empty directory`, unpack(), refusal);
    expect(await identityOf(directory)).toEqual(empty);
    await rmdir(directory);
    await removeStamp(directory);
    expect(await readdir(room)).toEqual(before);
    await expectNoRemains(own);
  }
}

function settingsBelow(dir: string, { settings }: Refusal): SettingsInput {
  return { ...settings, cacheDir: path.join(dir, "cache"), runDir: path.join(dir, "run") };
}

/** Which directory it is, and when anything of it or in it was changed last. */
async function identityOf(directory: string) {
  const { ino, birthtimeNs, mode, mtimeNs, ctimeNs } = await lstat(directory, { bigint: true });
  return { ino, birthtimeNs, mode, mtimeNs, ctimeNs };
}

/** What unpacking keeps beside a directory, which is its lock: there is nothing in it where nothing was unpacked. */
async function removeStamp(directory: string): Promise<void> {
  const file = stampFile(directory);
  expect((await stat(file).catch(() => undefined))?.size ?? 0).toBe(0);
  await rm(file, { force: true });
}

async function expectFailure(way: string, work: Promise<unknown>, { code, message }: Refusal): Promise<void> {
  const error = await work.then(
    () => ({ code: "none", message: "nothing failed" }),
    (error: unknown) => error as { code: string; message: string },
  );
  expect({ way, code: error.code, message: error.message }).toEqual({
    way,
    code,
    message: expect.stringMatching(message),
  });
}

/** Layers that were good, which later images may share: their indexes, and what copy mode has extracted. */
const goodLayers =
  /^cache\/(layer-indexes\/v\d+\/sha256\/[0-9a-f]{64}\.\d+|layers\/v\d+\/sha256\/[0-9a-f]{64}(\.lock|\/(0|entries|complete)))$/;

/** No mount, no record, no archive, nothing unfinished: nothing below `dir` but good layers. */
async function expectNoRemains(dir: string): Promise<void> {
  expect(readMountTable().filter(({ mountpoint }) => mountpoint.startsWith(dir))).toEqual([]);
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(dir, path.join(entry.parentPath, entry.name)));
  expect(files.filter((file) => !goodLayers.test(file))).toEqual([]);
}
