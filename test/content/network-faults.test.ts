import { beforeAll, describe, expect, test } from "vitest";
import { type FaultScenario, faultScenarios } from "../support/fault-scenarios.js";
import { type NetworkTrial, serverOf, startNetworkTrial } from "./network-trial.js";

/** Whatever the network does: the right bytes or an error, and the right bytes again when it is over, without opening anything anew. */

/** Short, because most faults that last use it up. */
const lastingDeadlineMs = 700;
const attemptTimeoutMs = 200;
/** Long, because a fault that happens once must not fail a read on a busy machine. */
const onceDeadlineMs = 30_000;

/** undici is loaded with the first request of a process, which takes longer than the deadlines here. */
beforeAll(async () => {
  const trial = await startNetworkTrial({ readDeadlineMs: onceDeadlineMs });
  await trial.readAll();
  await trial.close();
});

/** What has to hold of the requests, whatever came of them. */
function expectNoSecretsAstray({ registry, storage }: NetworkTrial): void {
  expect(storage.seen.filter(({ headers }) => headers.authorization !== undefined)).toEqual([]);
  // A password is for the token service, unless the registry asks for it itself.
  const atContent = registry.seen.filter(({ kind }) => kind === "blob");
  if (registry.auth.kind === "bearer") {
    expect(atContent.filter(({ headers }) => headers.authorization?.startsWith("Basic"))).toEqual([]);
  }
  expect(registry.seen.filter(({ method }) => method === "HEAD")).toEqual([]);
}

const named = faultScenarios.map((scenario) => [scenario.name, scenario] as const);

describe.concurrent.each([
  ["in the middle", true],
  ["from the start", false],
] as const)("a fault that begins %s and lasts", (_, warm) => {
  test.each(named)("%s", async (_name, scenario: FaultScenario) => {
    const { auth, storage, lasting } = scenario;
    const readDeadlineMs = lasting.includes("DEADLINE_EXCEEDED") ? lastingDeadlineMs : onceDeadlineMs;
    const trial = await startNetworkTrial({ auth, storage, readDeadlineMs, attemptTimeoutMs });
    try {
      // With the token and the URL of the storage that it leaves behind.
      if (warm) expect(await trial.readAllInTime()).toBe("right");
      await trial.begin(scenario);
      const outcomes = await Promise.all([
        trial.readAll(),
        trial.read(0, 10),
        trial.read(200_000, 70_000),
        trial.read(399_000, 1000),
      ]);
      for (const outcome of outcomes) expect(lasting).toContain(outcome);
      await trial.end(scenario);
      expect(await trial.readAllInTime()).toBe("right");
      expectNoSecretsAstray(trial);
    } finally {
      await trial.close();
    }
  });
});

describe.concurrent("a fault that happens once", () => {
  const single = named.filter(([, { rule }]) => rule);
  test.each(single)("%s", async (_name, scenario) => {
    const { auth, storage, once = "right" } = scenario;
    const deadline = once === "DEADLINE_EXCEEDED" ? lastingDeadlineMs : onceDeadlineMs;
    const trial = await startNetworkTrial({ auth, storage, readDeadlineMs: deadline, attemptTimeoutMs });
    try {
      expect(await trial.readAllInTime()).toBe("right");
      await scenario.begin?.(trial);
      serverOf(scenario, trial).script.add({ ...scenario.rule!(trial), times: 1 });
      expect(await trial.read(150_000, 100_000)).toBe(once);
      expect(await trial.readAllInTime()).toBe("right");
      expectNoSecretsAstray(trial);
    } finally {
      await trial.close();
    }
  });
});
