/**
 * Ways to break an archive, one rule at a time. Mutations keep to FORMAT.md's offsets (archive-bytes.ts); the CRCs are made right
 * afterwards, so that only the rule itself can find them.
 */
import { expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import { digestOf } from "../../src/image/digest.js";
import { placeOf, reseal, type SectionLabel, sectionBytes, withSections } from "./archive-bytes.js";
import { encoded, sampleContents } from "./sample-archive.js";
import { walkArchive } from "./walk-archive.js";

/** The archive that is broken. It has five spans, and all that an archive may have. */
export const good = encoded(sampleContents(), [3, 0, 2]);

/** The error that reading `bytes` gives; undefined where it reads. */
export function refusalOfBytes(bytes: Uint8Array): unknown {
  try {
    decodeArchive(bytes, "test.skim");
    return undefined;
  } catch (error) {
    return error;
  }
}

export function expectDamaged(bytes: Uint8Array, message: RegExp): void {
  const error = refusalOfBytes(bytes);
  expect(error).toMatchObject({ code: "ARCHIVE_DAMAGED", message: expect.stringMatching(message) });
  expect((error as Error).message).toMatch(/^archive test\.skim is damaged: .*; index the image again$/s);
}

/** Changes the good archive in place, or gives another one, so that one rule is broken; and what the reader must say of it. */
export type Mutation = [rule: string, message: RegExp, mutate: (archive: Buffer) => unknown];

/** One test a mutation. */
export function itRefuses(mutations: readonly Mutation[]): void {
  it.each(mutations)("%s is refused", (_rule, message, mutate) => {
    const archive = Buffer.from(good);
    const changed = mutate(archive);
    expectDamaged(reseal(Buffer.isBuffer(changed) ? changed : archive), message);
  });
}

/** Writes one field of one record of a section. */
export const field =
  (
    section: SectionLabel,
    recordBytes: number,
    record: number,
    at: number,
    bytes: 1 | 2 | 4 | 8,
    value: number | bigint,
  ) =>
  (archive: Buffer): void => {
    const start = placeOf(archive, section).offset + record * recordBytes + at;
    if (bytes === 8) archive.writeBigUInt64LE(BigInt(value), start);
    else archive.writeUIntLE(Number(value), start, bytes);
  };
export const inode = (ino: number, at: number, bytes: 4 | 8, value: number | bigint) =>
  field("inodes", 64, ino - 1, at, bytes, value);
export const dirent = (index: number, at: number, bytes: 1 | 2 | 4, value: number) =>
  field("dirents", 12, index, at, bytes, value);
export const extent = (index: number, at: number, bytes: 4 | 8, value: number | bigint) =>
  field("extents", 32, index, at, bytes, value);
export const xattrOf = (index: number, at: number, bytes: 2 | 4, value: number) =>
  field("xattrs", 16, index, at, bytes, value);
export const layer = (index: number, at: number, bytes: 1 | 2 | 4 | 8, value: number | bigint) =>
  field("layers", 64, index, at, bytes, value);
export const span = (index: number, at: number, bytes: 1 | 2 | 4 | 8, value: number | bigint) =>
  field("spans", 80, index, at, bytes, value);

export const all =
  (...mutations: Array<(archive: Buffer) => void>) =>
  (archive: Buffer) => {
    for (const mutate of mutations) mutate(archive);
  };
/** A section with `bytes` more of zeros at its end. */
export const longer = (section: SectionLabel, bytes: number) => (archive: Buffer) =>
  withSections(archive, { [section]: Buffer.concat([sectionBytes(archive, section), Buffer.alloc(bytes)]) });

/** Where the sample's inodes are, by path. */
const numbers = Object.fromEntries(
  walkArchive(decodeArchive(good, "good")).map(({ path, ino }) => [path, ino]),
);
export const at = (path: string) => {
  const ino = numbers[path];
  if (ino === undefined) throw new Error(`the sample has no ${path}`);
  return ino;
};
export const firstOf = (path: string) => decodeArchive(good, "good").inode(at(path)).first;
export const recordOf = (path: string) => `inodes record ${at(path) - 1}: `;

/** Another identity: its JSON changed. */
export const json = (change: (identity: Record<string, unknown>) => unknown) => (archive: Buffer) =>
  withSections(archive, {
    identity: Buffer.from(JSON.stringify(change(JSON.parse(sectionBytes(archive, "identity").toString())))),
  });
/** An identity whose digests fit another manifest. */
export const withManifest = (archive: Buffer, manifest: Uint8Array) =>
  json((identity) => ({ ...identity, manifestDigest: digestOf(manifest) }))(
    withSections(archive, { manifest }),
  );
/** The manifest of the good archive, to be changed. */
export const manifestJson = () => JSON.parse(sectionBytes(good, "manifest").toString());
