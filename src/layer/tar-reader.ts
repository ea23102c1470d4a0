import { limits } from "../base/limits.js";
import { ExtendedHeaders, isExtendedHeader } from "./extended-headers.js";
import { addOldExtensionMap, addOldHeaderMap, addPaxMap, SparseDataMap, SparseMap } from "./gnu-sparse.js";
import type { LayerEntry } from "./layer-index.js";
import { BlockKind, blockKind, headerNumber, TAR_BLOCK_BYTES, viewOf } from "./tar-header.js";
import { type EntryDraft, readMember, type TarMember } from "./tar-member.js";
import { shownName } from "./tar-names.js";
import { TarPosition } from "./tar-position.js";
import { Warnings } from "./warnings.js";

/**
 * A tar reader for indexing: it is pushed the uncompressed stream in pieces of any size, emits every member with the offsets
 * of its bytes in that stream, and skips the bytes themselves without touching them.
 *
 * At any moment it either skips `#skipBytes`, or wants `#wantBytes` contiguous ones for its `#step`: a header block, the content of an
 * extended header, or a block of a sparse map. Where a piece holds all of them they are read in place; where a piece ends
 * in between they are gathered in a buffer of at most `tarHeaderDataBytesMax`.
 *
 * Formats: v7, ustar, pax (also Solaris' `X`), GNU (long names, base-256 numbers, sparse files), star's prefix. Where tars leave a
 * choice it is Go's archive/tar's, as images are made of what docker, containerd and umoci can read; with two exceptions, both
 * POSIX's: global pax headers apply, and a member of an unknown type is a file (with a warning).
 */
export interface TarReaderOptions {
  /** Names the layer in errors. */
  readonly where: string;
  /** Members, and pieces of sparse files beyond their first, together. */
  readonly entriesMax: number;
  /** Gets each member as soon as its header has been read, before its bytes have come by. */
  onEntry(entry: LayerEntry): void;
}

/**
 * What names, link targets and attributes of one layer may take in memory. An honest layer with a million files has a
 * tenth of it; without a bound, a few megabytes of gzip hold enough of them to exhaust the heap.
 */
const METADATA_BYTES_MAX = 512 * 1024 * 1024;
/** What an attribute takes beside its characters: an object, two string headers. */
const XATTR_OVERHEAD_BYTES = 64;

const Step = { header: 0, extendedHeader: 1, oldSparseBlock: 2, sparseDataBlock: 3, end: 4 } as const;
type Step = (typeof Step)[keyof typeof Step];

export class TarReader {
  readonly #options: TarReaderOptions;
  readonly #position: TarPosition;
  readonly #warnings = new Warnings();
  readonly #headers = new ExtendedHeaders();

  #step: Step = Step.header;
  /** Of the first byte that has been neither skipped nor taken. */
  #offset = 0;
  #skipBytes = 0;
  /** How many of `#skipBytes` are padding: a tar may end there. */
  #padBytes = 0;
  #wantBytes = TAR_BLOCK_BYTES;
  #gather = Buffer.alloc(TAR_BLOCK_BYTES);
  #gatheredBytes = 0;
  #zeroBlocks = 0;
  #trailingNoted = false;
  /** Type of the extended header whose content is wanted. */
  #extendedType = 0;
  /** Size field of the hard link just read; see #takeUnknownBlock. */
  #linkBytes = 0;
  /** The sparse file whose map is being read. */
  #sparse: { entry: EntryDraft; storedBytes: number; map: SparseMap; dataMap: SparseDataMap } | undefined;

  #entries = 0;
  #metadataBytes = 0;

  constructor(options: TarReaderOptions) {
    this.#options = options;
    this.#position = new TarPosition(options.where);
  }

  /** What was odd but no error. */
  get warnings(): readonly string[] {
    return this.#warnings.list();
  }

  /** Takes the next bytes; keeps no reference to them. Throws LAYER_CORRUPT, LIMIT_EXCEEDED; then the reader is of no more use. */
  push(bytes: Uint8Array): void {
    const piece = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const view = viewOf(piece);
    let at = 0;
    while (at < piece.length) {
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, piece.length - at);
        this.#skipBytes -= skipped;
        this.#offset += skipped;
        at += skipped;
      } else if (this.#step === Step.end) {
        this.#noteTrailing(piece, at);
        return;
      } else if (this.#gatheredBytes === 0 && piece.length - at >= this.#wantBytes) {
        const taken = this.#wantBytes;
        this.#take(piece, view, at);
        at += taken;
      } else {
        at += this.#gatherFrom(piece, at);
      }
    }
  }

  /** No more bytes. Throws LAYER_CORRUPT where the tar is not at an end. */
  end(): void {
    if (this.#step === Step.end) return;
    this.#position.offset = this.#offset + this.#gatheredBytes;
    if (this.#skipBytes > this.#padBytes) {
      const missing = this.#skipBytes - this.#padBytes;
      throw this.#position.corrupt(`the tar ends ${missing} bytes before the end of a member`);
    }
    if (this.#step !== Step.header) throw this.#position.corrupt("the tar ends within an extended header");
    if (this.#gatheredBytes > 0) throw this.#position.corrupt("the tar ends within a header");
    if (this.#headers.pending) throw this.#position.corrupt("the tar ends behind an extended header");
    if (this.#zeroBlocks === 0) {
      this.#warnings.add("the tar ends without the blocks of zeros that mark its end");
    }
  }

  #gatherFrom(piece: Buffer, at: number): number {
    if (this.#gather.length < this.#wantBytes) {
      const larger = Buffer.allocUnsafe(this.#wantBytes);
      this.#gather.copy(larger, 0, 0, this.#gatheredBytes);
      this.#gather = larger;
    }
    const end = Math.min(at + this.#wantBytes - this.#gatheredBytes, piece.length);
    const copied = piece.copy(this.#gather, this.#gatheredBytes, at, end);
    this.#gatheredBytes += copied;
    if (this.#gatheredBytes === this.#wantBytes) {
      this.#gatheredBytes = 0;
      this.#take(this.#gather, viewOf(this.#gather), 0);
    }
    return copied;
  }

  /** Handles the `#wantBytes` bytes at `at` and decides what comes next. */
  #take(bytes: Buffer, view: DataView, at: number): void {
    this.#position.offset = this.#offset;
    this.#offset += this.#wantBytes;
    switch (this.#step) {
      case Step.header:
        this.#takeBlock(bytes, view, at);
        return;
      case Step.extendedHeader:
        this.#takeExtendedHeader(bytes, at, this.#wantBytes);
        return;
      case Step.oldSparseBlock:
        if (!addOldExtensionMap(bytes, at, this.#sparse!.map)) this.#finishSparse();
        return;
      case Step.sparseDataBlock:
        this.#takeSparseDataBlock(bytes, at);
        return;
    }
  }

  #takeBlock(block: Buffer, view: DataView, at: number): void {
    const kind = blockKind(block, view, at);
    if (kind === BlockKind.zeros) {
      if (this.#headers.pending) throw this.#position.corrupt("the tar ends behind an extended header");
      if (++this.#zeroBlocks === 2) this.#step = Step.end;
      return;
    }
    if (this.#zeroBlocks > 0) throw this.#position.corrupt("a single block of zeros between members");
    if (kind === BlockKind.other) {
      this.#takeUnknownBlock();
      return;
    }
    this.#linkBytes = 0;
    if (isExtendedHeader(block[at + 156]!)) this.#expectExtendedHeader(block, at);
    else this.#takeMember(readMember(block, at, this.#headers, this.#position), block, at);
  }

  /**
   * A block that is no header. POSIX lets a hard link carry the file's bytes, but in many tars a hard link only repeats the file's
   * size; Go and GNU tar never expect bytes. So they are looked for only where no header follows such a link.
   */
  #takeUnknownBlock(): void {
    if (this.#linkBytes === 0) throw this.#position.corrupt("no tar header (the checksum does not match)");
    this.#offset -= TAR_BLOCK_BYTES;
    this.#skipContent(this.#linkBytes);
    this.#linkBytes = 0;
    this.#skipBytes -= TAR_BLOCK_BYTES;
    this.#offset += TAR_BLOCK_BYTES;
  }

  #expectExtendedHeader(block: Buffer, at: number): void {
    const bytes = headerNumber(block, at + 124, 12);
    if (!(bytes >= 0)) throw this.#position.corrupt("an extended header whose size is not a number");
    if (bytes > limits.tarHeaderDataBytesMax) {
      throw this.#position.limit(
        `an extended header of ${bytes} bytes, more than ${limits.tarHeaderDataBytesMax}`,
      );
    }
    this.#extendedType = block[at + 156]!;
    if (bytes === 0) {
      this.#takeExtendedHeader(block, at, 0);
    } else {
      this.#step = Step.extendedHeader;
      this.#wantBytes = bytes;
    }
  }

  #takeExtendedHeader(bytes: Buffer, start: number, length: number): void {
    this.#headers.take(this.#extendedType, bytes, start, start + length, this.#position);
    this.#expectHeader();
    this.#skipPadding(length);
  }

  #takeMember(member: TarMember, block: Buffer, at: number): void {
    const { entry, storedBytes } = member;
    if (member.warning !== undefined) this.#warnings.add(member.warning);
    if (entry !== undefined) this.#account(entry);
    this.#linkBytes = member.linkBytes;
    if (entry !== undefined && member.sparse !== undefined) {
      this.#startSparse(member, entry, block, at);
      this.#headers.forget();
      return;
    }
    this.#headers.forget();
    if (entry !== undefined) {
      if (entry.type === "file" && storedBytes > 0) {
        entry.extents = [{ fileOffset: 0, layerOffset: this.#offset, length: storedBytes }];
      }
      this.#options.onEntry(entry);
    }
    this.#skipContent(storedBytes);
  }

  #startSparse(member: TarMember, entry: EntryDraft, block: Buffer, at: number): void {
    const pax = this.#headers.fields?.sparse;
    entry.fileBytes =
      member.sparse === "header" ? headerNumber(block, at + 483, 12) : (pax?.realBytes ?? entry.fileBytes);
    // The first piece is counted with its member.
    const extentsMax = this.#options.entriesMax - this.#entries + 1;
    const map = new SparseMap(entry.fileBytes, extentsMax, this.#position);
    this.#sparse = { entry, storedBytes: member.storedBytes, map, dataMap: new SparseDataMap(map) };
    if (member.sparse === "header" && addOldHeaderMap(block, at, map)) {
      this.#step = Step.oldSparseBlock;
    } else if (member.sparse === "data") {
      if (member.storedBytes < TAR_BLOCK_BYTES) throw this.#position.corrupt("a sparse file without its map");
      this.#step = Step.sparseDataBlock;
    } else {
      if (member.sparse === "records") addPaxMap(pax!, map);
      this.#finishSparse();
    }
  }

  #takeSparseDataBlock(block: Buffer, at: number): void {
    const sparse = this.#sparse!;
    sparse.storedBytes -= TAR_BLOCK_BYTES;
    if (sparse.dataMap.addBlock(block, at)) this.#finishSparse();
    else if (sparse.storedBytes < TAR_BLOCK_BYTES) {
      throw this.#position.corrupt("a sparse file whose map is longer than the file");
    }
  }

  #finishSparse(): void {
    const { entry, storedBytes, map } = this.#sparse!;
    this.#sparse = undefined;
    entry.extents = map.place(this.#offset, storedBytes);
    this.#entries += Math.max(0, entry.extents.length - 1);
    this.#options.onEntry(entry);
    this.#expectHeader();
    this.#skipContent(storedBytes);
  }

  #expectHeader(): void {
    this.#step = Step.header;
    this.#wantBytes = TAR_BLOCK_BYTES;
  }

  #skipContent(bytes: number): void {
    if (this.#offset + bytes > Number.MAX_SAFE_INTEGER - TAR_BLOCK_BYTES) {
      throw this.#position.corrupt("a member of an impossible size");
    }
    this.#skipPadding(bytes);
    this.#skipBytes += bytes;
  }

  /** Skips what fills up the last block of `bytes` bytes. */
  #skipPadding(bytes: number): void {
    const rest = bytes % TAR_BLOCK_BYTES;
    this.#padBytes = rest === 0 ? 0 : TAR_BLOCK_BYTES - rest;
    this.#skipBytes = this.#padBytes;
  }

  #account(entry: EntryDraft): void {
    if (++this.#entries > this.#options.entriesMax) {
      throw this.#position.entriesLimit(`more than ${this.#options.entriesMax} members`);
    }
    this.#metadataBytes += entry.path.length + entry.linkTarget.length;
    for (const { name, value } of entry.xattrs) {
      this.#metadataBytes += name.length + value.length + XATTR_OVERHEAD_BYTES;
    }
    if (this.#metadataBytes > METADATA_BYTES_MAX) {
      throw this.#position.limit(
        `the names and attributes up to ${shownName(entry.path)} have more than ${METADATA_BYTES_MAX} bytes`,
      );
    }
  }

  #noteTrailing(piece: Buffer, at: number): void {
    if (this.#trailingNoted) return;
    for (let i = at; i < piece.length; i++) {
      if (piece[i] !== 0) {
        this.#trailingNoted = true;
        this.#warnings.add("there are bytes behind the end of the tar; they were ignored");
        return;
      }
    }
  }
}
