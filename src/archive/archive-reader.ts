/**
 * Opens archives: reads the file, checks every rule of FORMAT.md, and hands out an Archive that cannot fail on its content.
 *
 * Order: header and section table (so that every length is known to be there before it is allocated), then each section with its CRC,
 * then identity, manifest and config, layers and spans, and the tree. The one thing that is left out is the CRC and content of
 * windows: they are most of the file, of each only a few are ever needed, and a wrong one cannot do harm, because what is decoded with it
 * must have the span's sha256. `verifyArchive` looks at them.
 */
import { type BigIntStats, constants, readSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { invariant, SkimError, systemErrorCode } from "../base/errors.js";
import { decodeAccounts } from "./accounts.js";
import type { Archive, TreeProof } from "./archive.js";
import { decodeIdentity, decodeImage } from "./identity.js";
import { checkLayers } from "./layer-rules.js";
import { LoadedArchive } from "./loaded-archive.js";
import { recordBytes, type SectionName } from "./records.js";
import { type Refuse, refusalOf } from "./refusal.js";
import {
  checkedSection,
  checkTablePadding,
  loadedSections,
  storedRange,
  type WindowSource,
} from "./section-bytes.js";
import { decodeSectionTable, headBytesMax, type SectionTable } from "./section-table.js";
import { checkStartSpans } from "./start-span-rules.js";
import { fileIdentityOf } from "./tree-proof.js";
import { checkTree } from "./tree-rules.js";

/** read(2) takes at most 2 GiB at once; this much also lets an abort through. */
const readBytesMax = 64 * 1024 * 1024;

export interface OpenArchiveOptions {
  readonly signal?: AbortSignal;
  /** Of an earlier opening (`Archive.treeProof`): if it is of this very file, its tree is not checked again. */
  readonly proof?: TreeProof;
}

/**
 * Opens and checks the archive `file`. It stays open for `window` until `close`; a file that is replaced by rename does not disturb it.
 * Reading is asynchronous; the checks run on the caller's thread, about a second for two million inodes.
 * Throws NOT_FOUND, ARCHIVE_VERSION, ARCHIVE_DAMAGED, LIMIT_EXCEEDED (no memory for a section), LOCAL_IO, and `signal.reason`.
 */
export async function openArchive(file: string, options: OpenArchiveOptions = {}): Promise<Archive> {
  const handle = await openFile(file);
  try {
    const refuse = refusalOf(file);
    const stat = await statRegularFile(handle, file);
    const fileBytes = Number(stat.size);
    const identity = fileIdentityOf(stat);
    const proof = options.proof?.file === identity ? options.proof : undefined;
    const read = (offset: number, length: number) =>
      readExactly(handle, offset, length, { file, refuse, signal: options.signal });
    const head = await read(0, Math.min(fileBytes, headBytesMax));
    const table = decodeSectionTable(head, fileBytes, file, refuse);
    checkTablePadding(table, head, refuse);
    const checked = new Map<SectionName, Buffer>();
    for (const entry of table.entries) {
      const { offset, length } = storedRange(entry);
      const bytes = checkedSection(entry, await read(offset, length), refuse);
      if (entry.name) checked.set(entry.name, bytes);
    }
    return checkedArchive(
      { table, checked, archiveBytes: fileBytes, refuse, file: identity, proof },
      (section) => fileWindows(handle, file, section, refuse),
    );
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Checks an archive that is in memory; `label` names it in errors. `bytes` must not be changed as long as the archive is used.
 * Throws ARCHIVE_VERSION, ARCHIVE_DAMAGED.
 */
export function decodeArchive(bytes: Uint8Array, label: string): Archive {
  const refuse = refusalOf(label);
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const table = decodeSectionTable(all, all.length, label, refuse);
  checkTablePadding(table, all, refuse);
  const checked = new Map<SectionName, Buffer>();
  for (const entry of table.entries) {
    const { offset, length } = storedRange(entry);
    const section = checkedSection(entry, all.subarray(offset, offset + length), refuse);
    if (entry.name) checked.set(entry.name, section);
  }
  const read = { table, checked, archiveBytes: all.length, refuse, file: undefined, proof: undefined };
  return checkedArchive(read, (section) => ({
    read: (offset, length) => all.subarray(section.offset + offset, section.offset + offset + length),
    close: async () => {},
  }));
}

interface ReadSections {
  readonly table: SectionTable;
  readonly checked: ReadonlyMap<SectionName, Buffer>;
  readonly archiveBytes: number;
  readonly refuse: Refuse;
  /** Identity of the file; undefined in memory. */
  readonly file: string | undefined;
  readonly proof: TreeProof | undefined;
}

function checkedArchive(
  { table, checked, archiveBytes, refuse, file, proof }: ReadSections,
  windowsOf: (section: { offset: number; length: number }) => WindowSource,
): Archive {
  const sections = loadedSections(checked);
  const windowsEntry = table.entries.find((entry) => entry.name === "windows");
  invariant(windowsEntry, "a checked section table has windows");
  const identity = decodeIdentity(sections.identity.bytes, refuse);
  const { manifest, config } = decodeImage(identity, sections.manifest.bytes, sections.config.bytes, refuse);
  const { layers, restartOf } = checkLayers(sections, windowsEntry.length, manifest, refuse);
  const totals = proof?.totals ?? checkTree(sections, layers, refuse);
  const treeProof = file === undefined ? undefined : { file, totals };
  const startSpans = checkStartSpans(sections, restartOf.length, refuse);
  const accounts = sections.accounts && decodeAccounts(sections.accounts.bytes, refuse);
  const listed = table.entries.flatMap(({ name, length, crc }) =>
    name ? [{ name, bytes: length, records: length / recordBytes[name], crc }] : [],
  );
  return new LoadedArchive(
    {
      ...{ identity, manifest, config, layers, restartOf, totals, treeProof, startSpans, accounts },
      ...{ sections: listed, archiveBytes },
    },
    sections,
    windowsOf(windowsEntry),
  );
}

async function openFile(file: string): Promise<FileHandle> {
  try {
    // Without O_NONBLOCK the open of a FIFO would wait for a writer, for ever.
    return await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    if (systemErrorCode(cause) === "ENOENT") {
      throw new SkimError("NOT_FOUND", `archive ${file}: there is no such file; make it with skim index`, {
        cause,
      });
    }
    throw new SkimError("LOCAL_IO", `archive ${file} cannot be opened`, { cause });
  }
}

async function statRegularFile(handle: FileHandle, file: string): Promise<BigIntStats> {
  const stat = await handle.stat({ bigint: true }).catch((cause: unknown) => {
    throw new SkimError("LOCAL_IO", `archive ${file} cannot be read`, { cause });
  });
  if (stat.isFile()) return stat;
  throw new SkimError("LOCAL_IO", `archive ${file} cannot be read: it is not a regular file`);
}

async function readExactly(
  handle: FileHandle,
  offset: number,
  length: number,
  context: { file: string; refuse: Refuse; signal: AbortSignal | undefined },
): Promise<Buffer> {
  const { file, refuse, signal } = context;
  const bytes = allocate(length, file);
  for (let filled = 0; filled < length; ) {
    signal?.throwIfAborted();
    const piece = Math.min(length - filled, readBytesMax);
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(bytes, filled, piece, offset + filled));
    } catch (cause) {
      throw new SkimError("LOCAL_IO", `archive ${file} cannot be read at ${offset + filled}`, { cause });
    }
    if (bytesRead === 0)
      throw refuse("file", undefined, `it ends at ${offset + filled} while it is being read`);
    filled += bytesRead;
  }
  return bytes;
}

function allocate(length: number, file: string): Buffer {
  try {
    return Buffer.allocUnsafeSlow(length);
  } catch (cause) {
    throw new SkimError("LIMIT_EXCEEDED", `archive ${file}: no memory for a section of ${length} bytes`, {
      cause,
    });
  }
}

function fileWindows(
  handle: FileHandle,
  file: string,
  section: { offset: number; length: number },
  refuse: Refuse,
): WindowSource {
  let closed: Promise<void> | undefined;
  return {
    read(offset, length) {
      invariant(closed === undefined, "no window is asked for after the archive was closed");
      const bytes = Buffer.allocUnsafeSlow(length);
      let bytesRead: number;
      try {
        bytesRead = readSync(handle.fd, bytes, 0, length, section.offset + offset);
      } catch (cause) {
        throw new SkimError("LOCAL_IO", `archive ${file} cannot be read at ${section.offset + offset}`, {
          cause,
        });
      }
      if (bytesRead !== length)
        throw refuse("windows", undefined, "the file has become shorter since it was opened");
      return bytes;
    },
    close() {
      closed ??= handle.close();
      return closed;
    },
  };
}
