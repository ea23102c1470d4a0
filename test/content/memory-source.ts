import type { ByteRange } from "../../src/base/byte-range.js";
import { SkimError } from "../../src/base/errors.js";
import type { Digest } from "../../src/image/digest.js";
import { orAborted } from "../../src/registry/call-scope.js";
import type { BlobId, ImageSource, ReadBlobOptions } from "../../src/registry/image-source.js";

/** Called for each request before its first byte, and for each piece: what it throws is thrown, what it returns is sent. */
export interface SourceFaults {
  before?: (request: SourceRequest) => Promise<void> | void;
  piece?: (piece: Buffer, at: number, request: SourceRequest) => Promise<Buffer> | Buffer;
}

export interface SourceRequest {
  /** Counted from 0. */
  readonly number: number;
  readonly range: ByteRange;
  readonly digest: Digest;
  readonly afterDamage: boolean;
}

/** Serves ranges of blobs from memory, in small pieces, with faults that a test sets; notes every request. */
export class MemorySource implements Pick<ImageSource, "readBlob" | "connectAhead"> {
  readonly requests: SourceRequest[] = [];
  /** How often it was told that something will be read. */
  connectedAhead = 0;
  /** Iterations that have begun and not ended. */
  open = 0;
  faults: SourceFaults = {};
  readonly #blobs: ReadonlyMap<Digest, Buffer>;
  readonly #pieceBytes: number;

  constructor(blobs: ReadonlyMap<Digest, Buffer>, pieceBytes = 16 * 1024) {
    this.#blobs = blobs;
    this.#pieceBytes = pieceBytes;
  }

  connectAhead(): void {
    this.connectedAhead++;
  }

  async *readBlob(blob: BlobId, options: ReadBlobOptions = {}): AsyncIterable<Uint8Array> {
    const bytes = this.#blobs.get(blob.digest);
    if (!bytes) throw new SkimError("NOT_FOUND", `no blob ${blob.digest}`);
    const { range = { start: 0, end: blob.size }, signal = new AbortController().signal } = options;
    const { afterDamage = false } = options;
    const request = { number: this.requests.length, range, digest: blob.digest, afterDamage };
    this.requests.push(request);
    this.open++;
    try {
      await orAborted(Promise.resolve(this.faults.before?.(request)), signal);
      for (let at = range.start; at < range.end; at += this.#pieceBytes) {
        const piece = Buffer.from(bytes.subarray(at, Math.min(at + this.#pieceBytes, range.end)));
        yield await orAborted(Promise.resolve(this.faults.piece?.(piece, at, request) ?? piece), signal);
      }
    } finally {
      this.open--;
    }
  }
}

/** A gate that holds who comes until it is opened. */
export class Gate {
  open!: () => void;
  readonly opened = new Promise<void>((resolve) => {
    this.open = resolve;
  });
}

export function unavailable(): SkimError {
  return new SkimError("REGISTRY_UNAVAILABLE", "the test's registry is down");
}
