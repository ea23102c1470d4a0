import type { ByteRange } from "../base/byte-range.js";
import type { Digest } from "../image/digest.js";
import type { Descriptor } from "../image/manifest.js";
import type { Platform } from "../image/platform.js";
import type { Reference } from "../image/reference.js";

/** Where the manifests and blobs of one repository come from: a registry, or an OCI layout directory. */
export interface ImageSource {
  readonly reference: Reference;

  /**
   * Finds the manifest that `reference` names, through image indexes, for `platform` (default: this host's).
   * Manifest and config bytes are checked against their digests.
   * What of `known` turns out to be needed is not asked for.
   * Throws NOT_FOUND, PLATFORM_NOT_FOUND, AUTH_FAILED, IMAGE_INVALID, DIGEST_MISMATCH, REGISTRY_UNAVAILABLE, REGISTRY_PROTOCOL.
   */
  resolve(options?: ResolveOptions): Promise<ResolvedImage>;

  /** Blobs will be read, and it is not known yet which: opens connections for that. Never throws. A source without it has none. */
  connectAhead?(): void;

  /**
   * Streams bytes of a blob, in order and in pieces of the source's choosing; exactly `range` (default: all `blob.size` bytes), or it
   * throws. Attempts that fail are repeated, five in a row at most, or for an outage until `deadlineMs`; a body that breaks off goes on where
   * it did. The bytes are *not* verified: a range cannot be. The body is closed when the iteration ends early.
   * Throws as resolve does, and DEADLINE_EXCEEDED, CANCELLED.
   */
  readBlob(blob: BlobId, options?: ReadBlobOptions): AsyncIterable<Uint8Array>;

  /**
   * Says that bytes which `readBlob` gave of `blob` were wrong, as `afterDamage` does. True where the next read asks somebody else (a mirror was
   * wrong), so that reading once more is worth while whatever it costs. A source without it knows one way only.
   */
  rejectBytes?(blob: BlobId): boolean;

  /** Of a source that has mirrors, in the order in which they are asked. */
  mirrors?(): readonly MirrorState[];

  /** What was asked of the source so far. */
  readonly counters: { readonly requests: number; readonly bytes: number };

  close(): Promise<void>;
}

export interface ResolveOptions {
  readonly platform?: Platform;
  readonly signal?: AbortSignal;
  readonly known?: KnownImage;
}

/** A manifest and config that were checked before. */
export interface KnownImage
  extends Pick<ResolvedImage, "manifestDigest" | "manifestMediaType" | "manifestBytes" | "configBytes"> {
  readonly configDigest: Digest;
}

export interface BlobId {
  readonly digest: Digest;
  /** Bytes of the whole blob. */
  readonly size: number;
}

export interface ReadBlobOptions {
  readonly range?: ByteRange;
  readonly signal?: AbortSignal;
  /** All attempts together, from the call to the last byte. Undefined: no limit but that of each attempt. */
  readonly deadlineMs?: number;
  /** The same bytes came before and were wrong: a source that knows a shorter way to them must not take it again. */
  readonly afterDamage?: boolean;
  /** Called when somebody is about to be asked, by a source that asks others. */
  readonly onAttempt?: (attempt: BlobAttempt) => void;
}

export interface BlobAttempt {
  /** The registry or mirror that is asked, as the user named it. */
  readonly host: string;
  /** The attempt before it failed. */
  readonly isRetry: boolean;
}

/** How a mirror of the source does. */
export interface MirrorState {
  readonly name: string;
  /** resting: left alone after a failure; on trial: it has rested, and one attempt tries it out. */
  readonly state: "in use" | "resting" | "on trial";
  /** Of a rest, until it is over, and what the failure was. */
  readonly restMs?: number;
  readonly reason?: string;
  /** Blobs that it is not asked for: it has not got them, or has sent other bytes. */
  readonly missingBlobs: number;
  readonly wrongBlobs: number;
}

export interface ResolvedImage {
  readonly reference: Reference;
  readonly platform: Platform;
  readonly manifestDigest: Digest;
  readonly manifestMediaType: string;
  readonly manifestBytes: Uint8Array;
  readonly config: Descriptor;
  readonly configBytes: Uint8Array;
  /** Base layer first. */
  readonly layers: readonly Descriptor[];
}
