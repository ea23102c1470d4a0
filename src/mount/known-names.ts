/**
 * What names of images meant when they were last looked up: `<cacheDir>/names/<sha256 of the name>.json`, one file for a name and platform. A note is a guess for
 * who will ask the registry anyway (image-in-use.ts), so one that is lost or torn costs time and nothing else.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { type Digest, isDigest } from "../image/digest.js";
import { type Platform, platformText } from "../image/platform.js";
import { type Reference, referenceText } from "../image/reference.js";

/** A host that starts another tag each time must not keep them for ever. */
const namesMax = 1000;

interface NameNote {
  /** Complete, and for which platform: that of this host where it is empty. */
  readonly reference: string;
  readonly platform: string;
  readonly manifestDigest: Digest;
}

/** The manifest that a name meant last; undefined where it is not known, or the name has a digest. */
export async function lastMeaning(
  cacheDir: string,
  reference: Reference,
  platform: Platform | undefined,
): Promise<Digest | undefined> {
  const named = nameOf(reference, platform);
  if (!named) return undefined;
  try {
    const note = JSON.parse(await readFile(fileOf(cacheDir, named), "utf8")) as NameNote;
    const isSame = note.reference === named.reference && note.platform === named.platform;
    return isSame && isDigest(note.manifestDigest) ? note.manifestDigest : undefined;
  } catch {
    return undefined;
  }
}

/** Keeps what a name means now. Never rejects. */
export async function noteMeaning(
  cacheDir: string,
  reference: Reference,
  platform: Platform | undefined,
  manifestDigest: Digest,
): Promise<void> {
  const named = nameOf(reference, platform);
  if (!named || (await lastMeaning(cacheDir, reference, platform)) === manifestDigest) return;
  const file = fileOf(cacheDir, named);
  const beside = `${file}.tmp-${randomBytes(6).toString("hex")}`;
  try {
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
    await dropOldest(path.dirname(file));
    await writeFile(beside, JSON.stringify({ ...named, manifestDigest } satisfies NameNote), { mode: 0o600 });
    await rename(beside, file);
  } catch {
    await rm(beside, { force: true }).catch(() => {});
  }
}

/** Layouts are looked up without a network. */
function nameOf(reference: Reference, platform: Platform | undefined) {
  if (reference.kind === "layout" || reference.digest) return undefined;
  return { reference: referenceText(reference), platform: platform ? platformText(platform) : "" };
}

function fileOf(cacheDir: string, { reference, platform }: Pick<NameNote, "reference" | "platform">): string {
  const hex = createHash("sha256").update(`${reference}\0${platform}`).digest("hex");
  return path.join(cacheDir, "names", `${hex}.json`);
}

async function dropOldest(directory: string): Promise<void> {
  const files = (await readdir(directory)).map((name) => path.join(directory, name));
  if (files.length < namesMax) return;
  const dated = await Promise.all(files.map(async (file) => ({ file, ms: (await stat(file)).mtimeMs })));
  dated.sort((a, b) => a.ms - b.ms);
  // A tenth of them, so that it is not done each time.
  for (const { file } of dated.slice(0, namesMax / 10)) await rm(file, { force: true });
}
