import fc from "fast-check";
import { expect, test } from "vitest";
import { type FaultScenario, faultScenarios } from "../support/fault-scenarios.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type NetworkTrial, serverOf, startNetworkTrial } from "./network-trial.js";
import { seed } from "./scanned-layers.js";

/**
 * Faults in any order and mixture, under readers that go on meanwhile. Whatever happens: right bytes or an error, and right bytes when it is over.
 */

/** Those that take no server away and leave the registry's way to log in alone, so that any of them can be mixed. */
const mixable = faultScenarios.filter(({ rule, end, storage, auth }) => rule && !end && !storage && !auth);
const runs = 12;
const layerBytes = 400_000;

interface Step {
  readonly fault: FaultScenario;
  /** Of the requests for blobs that come, how many go well before it and how many meet it. */
  readonly after: number;
  readonly times: number;
  readonly reads: ReadonlyArray<{ offset: number; length: number }>;
  readonly tokensExpire: boolean;
  readonly urlsExpire: boolean;
}

const step: fc.Arbitrary<Step> = fc.record({
  fault: fc.constantFrom(...mixable),
  after: fc.nat(2),
  times: fc.integer({ min: 1, max: 4 }),
  reads: fc.array(
    fc.record({ offset: fc.nat(layerBytes - 1), length: fc.integer({ min: 1, max: 150_000 }) }),
    { minLength: 1, maxLength: 4 },
  ),
  tokensExpire: fc.boolean(),
  urlsExpire: fc.boolean(),
});

async function take(trial: NetworkTrial, each: Step): Promise<void> {
  const { fault, after, times, reads, tokensExpire, urlsExpire } = each;
  if (tokensExpire) trial.registry.revokeTokens();
  if (urlsExpire) trial.storage.expireUrls();
  serverOf(fault, trial).script.add({ ...fault.rule!(trial), first: after + 1, times });
  // Wrong bytes throw; an error is as good an answer as any while things go wrong.
  await Promise.all(
    reads.map(({ offset, length }) => trial.read(offset, Math.min(length, layerBytes - offset))),
  );
}

test.each([
  ["with a disk cache, from a registry with storage behind it", true, true],
  ["without a cache, from the registry itself", false, false],
])(
  "random faults %s",
  async (_, cached, storage) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 6 }), async (steps) => {
        const trial = await startNetworkTrial({
          auth: { kind: "bearer" },
          storage,
          readDeadlineMs: 600,
          attemptTimeoutMs: 150,
          ...(cached ? { cacheDir: await makeTempDir("network") } : {}),
        });
        try {
          for (const each of steps) await take(trial, each);
          for (const server of [trial.registry, trial.storage]) server.script.clear();
          expect(await trial.readAllInTime()).toBe("right");
        } finally {
          await trial.close();
        }
      }),
      { seed, numRuns: runs, interruptAfterTimeLimit: 20_000, endOnFailure: true },
    );
  },
  60_000,
);
