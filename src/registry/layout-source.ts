import type { ByteRange } from "../base/byte-range.js";
import { invariant, SkimError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import type { Digest } from "../image/digest.js";
import { choosePlatform, type Descriptor, type ImageIndex } from "../image/manifest.js";
import { hostPlatform, type Platform } from "../image/platform.js";
import { type LayoutReference, referenceText } from "../image/reference.js";
import { CallScope } from "./call-scope.js";
import type { BlobId, ImageSource, ReadBlobOptions, ResolvedImage } from "./image-source.js";
import { entriesTagged, layoutTags, OciLayout } from "./oci-layout.js";
import {
  checkDigest,
  checkSize,
  type FetchedManifest,
  type ManifestStore,
  resolveImage,
} from "./resolve-image.js";

/** An OCI layout directory as an ImageSource. Holds nothing open between calls; index.json is read again each time it is needed. */
export class LayoutSource implements ImageSource {
  readonly reference: LayoutReference;
  readonly #layout: OciLayout;
  readonly #counters = { requests: 0, bytes: 0 };

  constructor(reference: LayoutReference) {
    this.reference = reference;
    this.#layout = new OciLayout(reference.directory, { followLinks: true });
  }

  /** Files opened, and bytes read of them. */
  get counters(): { readonly requests: number; readonly bytes: number } {
    return { ...this.#counters };
  }

  async resolve(options: { platform?: Platform; signal?: AbortSignal } = {}): Promise<ResolvedImage> {
    const scope = new CallScope(`resolving ${referenceText(this.reference)}`, options.signal);
    try {
      const store: ManifestStore = {
        reference: this.reference,
        manifest: (digest) => this.#manifest(digest, undefined, scope),
        smallBlob: (blob) => this.#smallBlob(blob.digest, limits.configBytesMax, scope),
      };
      const named = await this.#named(options.platform, scope);
      const first = await this.#manifest(named.digest, named.descriptor?.mediaType, scope);
      if (named.descriptor) checkSize(first.bytes, named.descriptor, this.reference.directory);
      return await resolveImage(store, first, options.platform);
    } finally {
      scope.end();
    }
  }

  readBlob(blob: BlobId, options: ReadBlobOptions = {}): AsyncIterable<Uint8Array> {
    const range = options.range ?? { start: 0, end: blob.size };
    invariant(range.start >= 0 && range.end <= blob.size, "a range lies within its blob");
    const endsAt = options.deadlineMs === undefined ? undefined : performance.now() + options.deadlineMs;
    return this.#readBlob(blob, range, options.signal, endsAt);
  }

  async close(): Promise<void> {}

  async *#readBlob(
    blob: BlobId,
    range: ByteRange,
    signal: AbortSignal | undefined,
    endsAt: number | undefined,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const what = `blob ${blob.digest} of ${this.reference.directory}`;
    const scope = new CallScope(`reading ${what}`, signal, endsAt);
    try {
      scope.check();
      this.#counters.requests++;
      const opened = await this.#layout.openBlob(blob.digest);
      try {
        if (opened.size !== blob.size) {
          throw new SkimError(
            "IMAGE_INVALID",
            `${what}: the file has ${opened.size} bytes, its descriptor says ${blob.size}`,
          );
        }
        for await (const piece of opened.pieces(range)) {
          scope.check();
          this.#counters.bytes += piece.length;
          yield piece;
        }
      } finally {
        await opened.close();
      }
    } finally {
      scope.end();
    }
  }

  /** What the reference names: by digest, by tag, or the only image there is. */
  async #named(
    platform: Platform | undefined,
    scope: CallScope,
  ): Promise<{ digest: Digest; descriptor?: Descriptor }> {
    const { digest, tag, directory } = this.reference;
    if (digest) return { digest };
    scope.check();
    this.#counters.requests++;
    const index = await this.#layout.imageIndex();
    const entries = tag === undefined ? onlyImage(index, directory) : entriesTagged(index, tag);
    const [first] = entries;
    if (!first) {
      const tags = layoutTags(index).join(", ") || "none";
      throw new SkimError(
        "NOT_FOUND",
        `${directory}: no image ${tag === undefined ? "at all" : `tagged ${tag}`}; tags: ${tags}`,
      );
    }
    // One tag may stand at several entries, one a platform.
    const same = entries.every((entry) => entry.digest === first.digest);
    const choice = { mediaType: index.mediaType, manifests: entries };
    const where = referenceText(this.reference);
    const descriptor = same ? first : choosePlatform(choice, platform ?? hostPlatform(), where);
    return { digest: descriptor.digest, descriptor };
  }

  async #manifest(digest: Digest, mediaType: string | undefined, scope: CallScope): Promise<FetchedManifest> {
    const bytes = await this.#smallBlob(digest, limits.manifestBytesMax, scope);
    checkDigest(bytes, digest, `manifest ${digest} of ${this.reference.directory}`);
    return { bytes, digest, mediaType };
  }

  async #smallBlob(digest: Digest, bytesMax: number, scope: CallScope): Promise<Uint8Array> {
    scope.check();
    this.#counters.requests++;
    const bytes = await this.#layout.smallBlob(digest, bytesMax);
    this.#counters.bytes += bytes.length;
    return bytes;
  }
}

/** Without a tag: all entries where they are one image (its platforms, untagged), else an error that lists the tags. */
function onlyImage(index: ImageIndex, directory: string): readonly Descriptor[] {
  const { manifests } = index;
  const tags = layoutTags(index);
  const oneImage = new Set(manifests.map((entry) => entry.digest)).size <= 1;
  const onlyPlatforms = tags.length <= 1 && manifests.every((entry) => entry.platform);
  if (oneImage || onlyPlatforms) return manifests;
  const list = tags.join(", ") || "none, name one by digest";
  throw new SkimError(
    "USAGE",
    `${directory}: ${manifests.length} images and no tag to choose by; its tags are: ${list} (e.g. oci:${directory}:${tags[0] ?? "TAG"})`,
  );
}
