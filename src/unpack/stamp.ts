/**
 * What an unpacked directory is, noted beside it: `.NAME.skim-unpack` beside NAME. Never in it, as the tree would not be the image's any more.
 *
 * A stamp names the directory by its inode, so that it says nothing of another one that takes the name. It is written before the directory gets its
 * name, and keeps the stamp of the directory that still has it: whenever the process ends, one of the two holds. The file is also the
 * lock of whoever unpacks there, and is never replaced or removed.
 */
import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { lstat, readFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import type { Digest } from "../image/digest.js";

const stampFormat = 1;

const stampSchema = z.object({
  manifestDigest: z.string(),
  /** By which digest (of an image index, perhaps) and for which platform the image was asked for, where it was by a digest. */
  requested: z.string().optional(),
  platform: z.string(),
  ownership: z.enum(["kept", "recorded"]),
  mode: z.enum(["copy", "extract"]),
  layers: z.number(),
  files: z.number(),
  warnings: z.array(z.string()),
  inode: z.string(),
  birthTimeNs: z.string(),
});

const fileSchema = z.object({ format: z.literal(stampFormat), stamps: z.array(stampSchema) });

export type Stamp = Omit<z.infer<typeof stampSchema>, "manifestDigest"> & { readonly manifestDigest: Digest };
export type NewStamp = Omit<Stamp, "inode" | "birthTimeNs">;

/** Bytes of a name from which on it is shortened: NAME_MAX is 255, and more is to be added. */
const LONG_NAME_BYTES = 200;

/** The beginning of the names of everything that unpacking into `directory` keeps beside it. */
export function besideName(directory: string): string {
  const name = path.basename(directory);
  if (Buffer.byteLength(name) < LONG_NAME_BYTES) return `.${name}.skim-unpack`;
  return `.${createHash("sha256").update(name).digest("hex").slice(0, 32)}.skim-unpack`;
}

export function stampFile(directory: string): string {
  return path.join(path.dirname(directory), besideName(directory));
}

/** The stamp of what is at `directory` now; undefined where it has none. */
export async function readStamp(directory: string): Promise<Stamp | undefined> {
  const [text, identity] = await Promise.all([
    readFile(stampFile(directory), "utf8").catch(() => ""),
    identityOf(directory).catch(() => undefined),
  ]);
  return identity && stampsIn(text).find((stamp) => isOf(stamp, identity));
}

/** Notes that `built`, which is about to become `directory`, is as `stamp` says. `file` is the stamp file, locked. */
export async function writeStamp(
  file: FileHandle,
  directory: string,
  built: string,
  stamp: NewStamp,
): Promise<void> {
  const before = await readStamp(directory);
  const stamps = [...(before ? [before] : []), { ...stamp, ...(await identityOf(built)) }];
  await file.truncate(0);
  await file.write(JSON.stringify({ format: stampFormat, stamps }), 0);
}

interface Identity {
  readonly inode: string;
  readonly birthTimeNs: string;
}

async function identityOf(directory: string): Promise<Identity> {
  const { ino, birthtimeNs } = await lstat(directory, { bigint: true });
  return { inode: String(ino), birthTimeNs: String(birthtimeNs) };
}

function isOf(stamp: Identity, identity: Identity): boolean {
  return stamp.inode === identity.inode && stamp.birthTimeNs === identity.birthTimeNs;
}

function stampsIn(text: string): Stamp[] {
  try {
    return (fileSchema.safeParse(JSON.parse(text)).data?.stamps ?? []) as Stamp[];
  } catch {
    return [];
  }
}
