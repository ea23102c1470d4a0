/**
 * Mutated archives: each is refused as damaged (or of another version), or can be walked to its end.
 *
 * Most have right CRCs, so that the rules behind them are reached. What was accepted although it was changed is also what the FUSE fuzzer
 * serves.
 */
import { decodeArchive } from "../../src/archive/archive-reader.js";
import { isSkimError } from "../../src/base/errors.js";
import type { NativeBinding } from "../../src/native/binding.js";
import { joined, type RawSection, rawSections, reseal, resealHeader } from "../archive/archive-bytes.js";
import { walkArchive } from "../archive/walk-archive.js";
import { mutated } from "../support/mutator.js";
import type { Corpus } from "./corpus.js";
import { exact, type Fuzzer } from "./fuzzer.js";
import type { Random } from "./random.js";

interface ArchiveInput {
  readonly archive: Buffer;
}

export async function archiveFuzzer(_native: NativeBinding, corpus: Corpus): Promise<Fuzzer<ArchiveInput>> {
  return {
    make: (random) => ({ archive: mutatedArchive(random.pick(corpus.archives), random) }),
    async run({ archive }) {
      const opened = openedOr(archive);
      if (typeof opened === "string") return opened;
      walkArchive(opened);
      return "walked";
    },
  };
}

/** The archive, or the code of its refusal. */
export function openedOr(archive: Uint8Array) {
  try {
    return decodeArchive(exact(archive), "mutated");
  } catch (error) {
    for (const code of ["ARCHIVE_DAMAGED", "ARCHIVE_VERSION"] as const)
      if (isSkimError(error, code)) return code;
    throw error;
  }
}

export function mutatedArchive(good: Buffer, random: Random): Buffer {
  switch (random.below(8)) {
    case 0:
      return mutated(good, random.below);
    case 1:
      return withMutatedHead(good, random);
    case 2:
    case 3:
      return withMutatedSection(good, random);
    default:
      return withChangedRecords(good, random);
  }
}

/** Header and section table: of the right checksum in most cases. */
function withMutatedHead(good: Buffer, random: Random): Buffer {
  const archive = Buffer.from(good);
  const headBytes = 64 + 32 * archive.readUInt32LE(12);
  for (let changes = random.between(1, 3); changes > 0; changes--) {
    const at = random.below(headBytes / 4) * 4;
    archive.writeUInt32LE(random.oneIn(2) ? random.telling() : random.below(archive.length * 2), at);
  }
  // With a count of sections that leads outside there is no table to have a checksum.
  if (random.oneIn(8) || 64 + 32 * archive.readUInt32LE(12) > archive.length) return archive;
  return resealHeader(archive);
}

/** One section with other bytes, perhaps more or fewer, put together again by the rules of the file. */
function withMutatedSection(good: Buffer, random: Random): Buffer {
  const sections = rawSections(good);
  const chosen = random.below(sections.length);
  const change = (section: RawSection): RawSection => {
    const bytes = mutated(Buffer.from(section.bytes), random.below);
    // A length that is no multiple of the record is refused before anything else is looked at.
    const whole = random.oneIn(6) ? bytes.length : bytes.length - (bytes.length % section.recordBytes);
    return { ...section, bytes: bytes.subarray(0, whole) };
  };
  return joined(sections.map((section, i) => (i === chosen ? change(section) : section)));
}

/** Fields of records in place, with numbers that mean something to somebody. */
function withChangedRecords(good: Buffer, random: Random): Buffer {
  const archive = Buffer.from(good);
  const tables = Array.from({ length: archive.readUInt32LE(12) }, (_, i) => 64 + 32 * i);
  for (let changes = random.between(1, 3); changes > 0; changes--) {
    const entry = random.pick(tables);
    const start = Number(archive.readBigUInt64LE(entry + 8));
    const length = Number(archive.readBigUInt64LE(entry + 16));
    const width = random.pick([1, 2, 4, 8]);
    if (length < width) continue;
    const at = start + random.below(Math.floor(length / width)) * width;
    const value = random.oneIn(2) ? random.telling() : random.below(64);
    if (width === 8) archive.writeBigUInt64LE(BigInt(value) << (random.oneIn(4) ? 31n : 0n), at);
    else archive.writeUIntLE(value % 2 ** (8 * width), at, width);
  }
  return reseal(archive);
}
