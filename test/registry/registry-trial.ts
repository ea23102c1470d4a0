import { afterEach } from "vitest";
import type { ByteRange } from "../../src/base/byte-range.js";
import { SkimError } from "../../src/base/errors.js";
import { parseReference, type RegistryReference } from "../../src/image/reference.js";
import type { BlobId, ImageSource } from "../../src/registry/image-source.js";
import { RegistrySource, type RegistrySourceOptions } from "../../src/registry/registry-source.js";
import { defaultRetryPolicy } from "../../src/registry/retry.js";
import { type FakeAuth, FakeRegistry } from "../support/fake-registry.js";

/** What the tests of the registry client share: servers and sources that end with the test, and quick retries. */

const open: Array<{ close(): Promise<void> }> = [];

afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

export async function startFake(auth?: FakeAuth): Promise<FakeRegistry> {
  const registry = await FakeRegistry.start(auth);
  open.push(registry);
  return registry;
}

export const quickRetries = { ...defaultRetryPolicy, firstDelayMs: 2, delayFactor: 1.5 };

/** A source for `repository` of `registry` with no credentials but those given. */
export function openSource(
  registry: { host: string },
  name = "team/app:v1",
  options: Partial<RegistrySourceOptions & RegistrySourceOptions["settings"]> = {},
): ImageSource {
  const { attemptTimeoutMs = 10_000, insecureRegistries = [], mirrors = {}, cacheDir, ...rest } = options;
  const { mirrorTimeoutMs = attemptTimeoutMs } = options;
  const source = new RegistrySource(parseReference(`${registry.host}/${name}`) as RegistryReference, {
    settings: {
      ...{ attemptTimeoutMs, insecureRegistries, mirrors, mirrorTimeoutMs },
      ...(cacheDir === undefined ? {} : { cacheDir }),
    },
    credentials: async () => undefined,
    retryPolicy: quickRetries,
    ...rest,
  });
  open.push(source);
  return source;
}

export function closeAfterTest(closable: { close(): Promise<void> }): void {
  open.push(closable);
}

export async function readAll(
  source: ImageSource,
  blob: BlobId,
  range?: ByteRange,
  options: { signal?: AbortSignal; deadlineMs?: number; afterDamage?: boolean } = {},
): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of source.readBlob(blob, { ...(range ? { range } : {}), ...options }))
    pieces.push(piece);
  return Buffer.concat(pieces);
}

/** The SkimError that `work` fails with; anything else fails the test. */
export async function failureOf(work: Promise<unknown>): Promise<SkimError> {
  const outcome = await work.then(
    () => new Error("it succeeded"),
    (error: unknown) => error,
  );
  if (outcome instanceof SkimError) return outcome;
  throw outcome;
}

/** Bytes that differ everywhere: a shifted range is never right by accident. */
export function numberedBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i + 4 <= length; i += 4) bytes.writeUInt32LE(i, i);
  return bytes;
}
