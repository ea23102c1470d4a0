import { beforeAll, expect, test } from "vitest";
import { FakeRegistry } from "../support/fake-registry.js";
import { faultScenarios } from "../support/fault-scenarios.js";
import { changes, faults } from "../support/network-faults.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type NetworkTrial, startNetworkTrial } from "./network-trial.js";

/** Whatever a mirror does wrong, readers get the right bytes: there is somebody else to ask. */

async function startMirroredTrial(
  mirrorCount: number,
  cacheDir?: string,
): Promise<{ trial: NetworkTrial; mirrors: FakeRegistry[] }> {
  const mirrors: FakeRegistry[] = [];
  for (let i = 0; i < mirrorCount; i++) mirrors.push(await FakeRegistry.start());
  const trial = await startNetworkTrial({
    readDeadlineMs: 30_000,
    attemptTimeoutMs: 10_000,
    settings: ({ host }) => ({
      mirrors: { [host]: mirrors.map(({ url }) => url) },
      mirrorTimeoutMs: 3_000,
    }),
    ...(cacheDir === undefined ? {} : { cacheDir }),
  });
  for (const mirror of mirrors) mirror.addBlob(trial.blob);
  const { close } = trial;
  return {
    mirrors,
    trial: {
      ...trial,
      close: async () => {
        await close();
        for (const mirror of mirrors) await mirror.close();
      },
    },
  };
}

beforeAll(async () => {
  const { trial } = await startMirroredTrial(0);
  await trial.readAll();
  await trial.close();
});

const ofBlobs = faultScenarios.filter(({ rule, auth, storage }) => rule && !auth && !storage);

test.concurrent.each(ofBlobs.map((scenario) => [scenario.name, scenario] as const))(
  "a mirror: %s",
  async (_, scenario) => {
    const { trial, mirrors } = await startMirroredTrial(1);
    const mirror = mirrors[0]!;
    try {
      const rule = scenario.rule!({ ...trial, registry: mirror });
      mirror.script.add({ ...rule, times: Number.POSITIVE_INFINITY });
      expect(await Promise.all([trial.read(0, 10), trial.read(200_000, 70_000), trial.readAll()])).toEqual([
        "right",
        "right",
        "right",
      ]);
      expect(mirror.seen.length).toBeGreaterThan(0);
    } finally {
      await trial.close();
    }
  },
);

test.each([1, 2, 3])("%i mirrors that lie about a blob cost a few requests and no read", async (count) => {
  const { trial, mirrors } = await startMirroredTrial(count, await makeTempDir("mirrors"));
  try {
    for (const mirror of mirrors) {
      mirror.script.add({
        on: "blob",
        fault: faults.changed(changes.otherBytes()),
        times: Number.POSITIVE_INFINITY,
      });
    }
    expect(await trial.readAll()).toBe("right");
    expect(mirrors.map(({ counters }) => counters.blob)).toEqual([1, 1, 0].slice(0, count));
    expect(trial.content.counters.get("verification_failures_total")).toBe(Math.min(count, 2));
    expect(trial.content.counters.get("read_failures_total")).toBe(0);
  } finally {
    await trial.close();
  }
});

test("with the origin away, mirrors are enough", async () => {
  const { trial, mirrors } = await startMirroredTrial(2);
  try {
    await trial.registry.close();
    expect(await trial.read(0, 100_000)).toBe("right");
    await mirrors[0]!.close();
    expect(await trial.readAll()).toBe("right");
    await trial.registry.listen();
  } finally {
    await trial.close();
  }
});
