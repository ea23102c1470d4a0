import type { ByteRange } from "../base/byte-range.js";
import { invariant, SkimError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { type Logger, silentLogger } from "../base/logger.js";
import type { Settings } from "../base/settings.js";
import { type Digest, digestAlgorithm, digestOf, isDigest } from "../image/digest.js";
import type { Descriptor } from "../image/manifest.js";
import { manifestAccept } from "../image/media-types.js";
import { type RegistryReference, referenceText } from "../image/reference.js";
import { blobPath, streamBlob } from "./blob-stream.js";
import { CallScope } from "./call-scope.js";
import type { CredentialLookup } from "./credentials.js";
import { dockerCredentials } from "./docker-credentials.js";
import { type Endpoint, mirrorEndpoint, registryOrigin } from "./endpoint.js";
import type {
  BlobId,
  ImageSource,
  MirrorState,
  ReadBlobOptions,
  ResolvedImage,
  ResolveOptions,
} from "./image-source.js";
import type { RestPolicy } from "./mirror-rest.js";
import { OpenRegistries } from "./open-registries.js";
import { protocolFailure, refuseEncoding } from "./refusals.js";
import { RegistryClient } from "./registry-client.js";
import { RegistryRoutes } from "./registry-routes.js";
import { checkDigest, type FetchedManifest, type ManifestStore, resolveImage } from "./resolve-image.js";
import { Attempts, defaultRetryPolicy, type RetryPolicy, retrying } from "./retry.js";
import { Transport } from "./transport.js";

/** For the first requests of a start, which go out side by side. */
const connectionsAhead = 6;

/**
 * One repository of a registry as an ImageSource: the distribution spec's pull side. The parts, from the outside in: `resolve-image` and
 * `blob-stream` say what is wanted, `retry` repeats attempts, `registry-client` makes one (authorization, redirects), `transport` sends.
 */
export interface RegistrySourceOptions {
  readonly settings: Pick<Settings, "attemptTimeoutMs" | "insecureRegistries"> &
    Partial<Pick<Settings, "mirrors" | "mirrorTimeoutMs" | "readDeadlineMs" | "cacheDir">>;
  readonly logger?: Logger;
  /** Default: the files of docker and podman. */
  readonly credentials?: CredentialLookup;
  readonly retryPolicy?: RetryPolicy;
  readonly restPolicy?: RestPolicy;
}

export class RegistrySource implements ImageSource {
  readonly reference: RegistryReference;
  readonly #transport: Transport;
  readonly #routes: RegistryRoutes;
  readonly #policy: RetryPolicy;
  readonly #logger: Logger;
  readonly #closing = new AbortController();
  readonly #firstOrigin: URL;

  constructor(reference: RegistryReference, options: RegistrySourceOptions) {
    this.reference = reference;
    const { registry, repository } = reference;
    this.#logger = (options.logger ?? silentLogger).child({ registry, repository });
    this.#policy = options.retryPolicy ?? defaultRetryPolicy;
    const { attemptTimeoutMs, insecureRegistries, mirrors = {}, cacheDir } = options.settings;
    const openRegistries = cacheDir === undefined ? undefined : new OpenRegistries(cacheDir);
    this.#transport = new Transport({ attemptTimeoutMs, logger: this.#logger });
    const clientOf = (endpoint: Endpoint) =>
      new RegistryClient({
        ...endpoint,
        insecureRegistries,
        transport: this.#transport,
        lookUpCredentials: options.credentials ?? dockerCredentials(),
        policy: this.#policy,
        logger: this.#logger,
        closed: this.#closing.signal,
        openRegistries,
      });
    const named = mirrors[registry.toLowerCase()] ?? [];
    const endpoints = named.map((mirror) => mirrorEndpoint(mirror, reference, insecureRegistries));
    const origin = { registry, repository, origin: registryOrigin(registry, insecureRegistries) };
    this.#firstOrigin = new URL((endpoints[0] ?? origin).origin);
    this.#routes = new RegistryRoutes({
      origin: clientOf(origin),
      mirrors: endpoints.map((endpoint) => ({ name: endpoint.registry, client: clientOf(endpoint) })),
      mirrorTimeoutMs: mirrorPatienceMs(options.settings, endpoints.length),
      logger: this.#logger,
      ...(options.restPolicy ? { restPolicy: options.restPolicy } : {}),
    });
  }

  get counters(): { readonly requests: number; readonly bytes: number } {
    return { ...this.#transport.counters };
  }

  async resolve({ platform, signal, known }: ResolveOptions = {}): Promise<ResolvedImage> {
    const scope = new CallScope(`resolving ${referenceText(this.reference)}`, signal);
    try {
      const store: ManifestStore = {
        reference: this.reference,
        manifest: async (digest) =>
          digest === known?.manifestDigest
            ? { bytes: known.manifestBytes, digest, mediaType: known.manifestMediaType }
            : await this.#manifest(digest, digest, scope),
        smallBlob: async (blob, what) =>
          blob.digest === known?.configDigest ? known.configBytes : await this.#smallBlob(blob, what, scope),
      };
      const { tag, digest } = this.reference;
      const first = await this.#manifest(digest ?? tag ?? "latest", digest, scope);
      return await resolveImage(store, first, platform);
    } finally {
      scope.end();
    }
  }

  connectAhead(): void {
    this.#transport.connectAhead(this.#firstOrigin, connectionsAhead);
  }

  readBlob(blob: BlobId, options: ReadBlobOptions = {}): AsyncIterable<Uint8Array> {
    const range = options.range ?? { start: 0, end: blob.size };
    invariant(range.start >= 0 && range.end <= blob.size, "a range lies within its blob");
    const endsAt = options.deadlineMs === undefined ? undefined : performance.now() + options.deadlineMs;
    if (options.afterDamage) this.#routes.damaged(blobPath(blob), range);
    return this.#readBlob(blob, range, options, endsAt);
  }

  mirrors(): readonly MirrorState[] {
    return this.#routes.describe();
  }

  rejectBytes(blob: BlobId): boolean {
    return this.#routes.damaged(blobPath(blob), { start: 0, end: blob.size });
  }

  /** Requests that are under way fail with CANCELLED. */
  async close(): Promise<void> {
    this.#closing.abort(
      new SkimError("CANCELLED", `${referenceText(this.reference)}: the source was closed`),
    );
    await this.#transport.close();
  }

  async *#readBlob(
    blob: BlobId,
    range: ByteRange,
    { signal, onAttempt }: ReadBlobOptions,
    endsAt: number | undefined,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const what = `blob ${blob.digest} of ${this.#repositoryName}`;
    const scope = new CallScope(`reading ${what}`, signal, endsAt);
    try {
      yield* streamBlob(blob, range, { ...this.#parts, scope, what, onAttempt });
    } finally {
      scope.end();
    }
  }

  /** `expected` is the digest asked for; undefined for a tag, where the registry's own claim is checked. */
  async #manifest(name: string, expected: Digest | undefined, scope: CallScope): Promise<FetchedManifest> {
    const what = `manifest ${name} of ${this.#repositoryName}`;
    const path = `manifests/${name}`;
    return await retrying(new Attempts(this.#policy, scope, this.#logger), () =>
      this.#routes.each(path, scope, async (client, signal) => {
        const response = await client.get(path, { accept: manifestAccept }, { what, signal });
        try {
          refuseEncoding(response, what);
          if (response.status !== 200)
            throw protocolFailure(`${what}: status ${response.status} where 200 belongs`);
        } catch (failure) {
          void this.#transport.discard(response);
          throw failure;
        }
        const bytes = await this.#transport.bytes(response, limits.manifestBytesMax, what, signal);
        const claimed = response.headers["docker-content-digest"];
        const digest = expected ?? (isDigest(claimed) ? claimed : digestOf(bytes));
        checkDigest(bytes, digest, what);
        return { bytes, digest, mediaType: response.headers["content-type"] };
      }),
    );
  }

  /** Not checked, but asked for again where a mirror sent other bytes. */
  async #smallBlob(blob: Descriptor, what: string, scope: CallScope): Promise<Uint8Array> {
    const range = { start: 0, end: blob.size };
    for (;;) {
      const pieces: Uint8Array[] = [];
      for await (const piece of streamBlob(blob, range, { ...this.#parts, scope, what })) pieces.push(piece);
      const bytes = Buffer.concat(pieces);
      const isRight = digestOf(bytes, digestAlgorithm(blob.digest)) === blob.digest;
      if (isRight || !this.#routes.damaged(blobPath(blob), range)) return bytes;
    }
  }

  get #parts() {
    return {
      routes: this.#routes,
      transport: this.#transport,
      policy: this.#policy,
      logger: this.#logger,
    };
  }

  get #repositoryName(): string {
    return `${this.reference.registry}/${this.reference.repository}`;
  }
}

/** All mirrors together must leave a read the time to ask the origin, twice. */
function mirrorPatienceMs(settings: RegistrySourceOptions["settings"], mirrors: number): number {
  const { mirrorTimeoutMs, attemptTimeoutMs, readDeadlineMs } = settings;
  const share = (readDeadlineMs ?? Number.POSITIVE_INFINITY) / (mirrors + 2);
  return Math.ceil(Math.min(mirrorTimeoutMs ?? attemptTimeoutMs, attemptTimeoutMs, share));
}
