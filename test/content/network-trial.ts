import { expect } from "vitest";
import { isSkimError } from "../../src/base/errors.js";
import { type Logger, silentLogger } from "../../src/base/logger.js";
import { SpanCache } from "../../src/cache/span-cache.js";
import { type Content, openContent } from "../../src/content/content.js";
import { parseReference, type RegistryReference } from "../../src/image/reference.js";
import { loadNative } from "../../src/native/load.js";
import type { CredentialLookup } from "../../src/registry/credentials.js";
import { RegistrySource, type RegistrySourceOptions } from "../../src/registry/registry-source.js";
import { type FakeAuth, FakeRegistry } from "../support/fake-registry.js";
import { FakeStorage } from "../support/fake-storage.js";
import {
  bearerAuth,
  type FaultScenario,
  type FaultWorld,
  type Outcome,
  readerPassword,
} from "../support/fault-scenarios.js";
import { readFile } from "./open-content.js";
import { gzipBlob, type ScannedArchive, sampleBytes, scanLayers, wholeLayer } from "./scanned-layers.js";

/** Content whose layers come from a FakeRegistry through the whole registry client: what a mount has below it. */

const layerBytes = 400_000;

export interface NetworkTrial extends FaultWorld {
  readonly archive: ScannedArchive;
  readonly content: Content;
  /** Reads, and says what came of it; wrong bytes fail the test. */
  read(offset: number, length: number): Promise<Outcome>;
  readAll(): Promise<Outcome>;
  /** Reads everything until that does not fail for want of time: deadlines are short here, and the machine may be busy. */
  readAllInTime(): Promise<Outcome>;
  /** Makes the fault of `scenario` happen until `end`. */
  begin(scenario: FaultScenario): Promise<void>;
  end(scenario: FaultScenario): Promise<void>;
  close(): Promise<void>;
}

export interface NetworkTrialOptions {
  readonly auth?: FakeAuth | undefined;
  readonly storage?: boolean | undefined;
  readonly readDeadlineMs: number;
  readonly attemptTimeoutMs?: number;
  readonly cacheDir?: string;
  readonly logger?: Logger;
  readonly credentials?: CredentialLookup;
  /** Settings of the source, of mirrors for example. */
  readonly settings?: (registry: FakeRegistry) => Partial<RegistrySourceOptions["settings"]>;
}

/** What is not right after so many reads is stuck. */
const readsMax = 40;
/** What a deadline, or the time limit of an attempt, comes to. */
const wantOfTime: readonly Outcome[] = ["DEADLINE_EXCEEDED", "REGISTRY_UNAVAILABLE"];

let sharedArchive: Promise<ScannedArchive> | undefined;

export async function startNetworkTrial(options: NetworkTrialOptions): Promise<NetworkTrial> {
  const { readDeadlineMs, attemptTimeoutMs = 5_000, cacheDir, logger = silentLogger } = options;
  sharedArchive ??= scanLayers([gzipBlob(sampleBytes(layerBytes))]);
  const archive = await sharedArchive;
  const blob = archive.blobs.get(archive.layers[0]!.digest)!;
  const storage = await FakeStorage.start();
  // Where there is storage, there are credentials that must not reach it.
  const registry = await FakeRegistry.start(options.auth ?? (options.storage ? bearerAuth : undefined));
  if (options.storage) registry.redirectTo(storage);
  registry.addBlob(blob);
  const reference = parseReference(`${registry.host}/team/app:v1`) as RegistryReference;
  const source = new RegistrySource(reference, {
    settings: {
      attemptTimeoutMs,
      readDeadlineMs,
      insecureRegistries: [],
      ...options.settings?.(registry),
    },
    credentials: options.credentials ?? readerCredentials,
    retryPolicy: {
      attemptsMax: 5,
      firstDelayMs: 2,
      delayFactor: 2,
      delayMsMax: 100,
      retryAfterMsMax: 60_000,
    },
    logger,
  });
  const content = openContent({
    archive,
    source,
    cache: cacheDir === undefined ? undefined : SpanCache.open(cacheDir, { logger }),
    native: loadNative(),
    // Nothing is kept in memory: each read is one of the network.
    settings: { readDeadlineMs, memoryCacheBytes: 0 },
    logger,
  });
  const file = wholeLayer(archive);
  const truth = archive.truths[0]!;
  const read = async (offset: number, length: number): Promise<Outcome> => {
    try {
      const bytes = await readFile(content, file, offset, length);
      const isRight = bytes.equals(truth.subarray(offset, offset + length));
      expect(isRight, `bytes at ${offset}+${length} are right`).toBe(true);
      return "right";
    } catch (error) {
      if (isSkimError(error)) return error.code;
      throw error;
    }
  };
  const world = { registry, storage, blob };
  return {
    ...world,
    archive,
    content,
    read,
    readAll: () => read(0, truth.length),
    readAllInTime: async () => {
      let outcome: Outcome = "DEADLINE_EXCEEDED";
      for (let reads = 0; reads < readsMax && wantOfTime.includes(outcome); reads++)
        outcome = await read(0, truth.length);
      return outcome;
    },
    begin: async (scenario) => {
      await scenario.begin?.(world);
      const rule = scenario.rule?.(world);
      if (rule) serverOf(scenario, world).script.add({ ...rule, times: Number.POSITIVE_INFINITY });
    },
    end: async (scenario) => {
      for (const server of [registry, storage]) server.script.clear();
      await scenario.end?.(world);
    },
    close: async () => {
      await content.close();
      await source.close();
      await registry.close();
      await storage.close();
    },
  };
}

export const readerCredentials: CredentialLookup = async () => ({
  origin: "the test",
  credentials: { kind: "password", username: "reader", password: readerPassword },
});

/** Whose script a scenario's rule goes into. */
export function serverOf(scenario: FaultScenario, world: FaultWorld): FakeRegistry | FakeStorage {
  return scenario.rule?.(world).on === "storage" ? world.storage : world.registry;
}
