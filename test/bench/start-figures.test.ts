import { describe, expect, it } from "vitest";
import { networkProfile } from "../../bench/network/profiles.js";
import {
  growthPlot,
  idealMs,
  type MeasuredStarts,
  startFigures,
  startPlot,
  timelinePlot,
} from "../../bench/start/start-figures.js";
import { startImage } from "../../bench/start/start-images.js";
import { wayNames } from "../../bench/start/ways.js";
import { outcomeOf } from "../../src/bench/figure.js";
import { samplesByTurns } from "../../src/bench/rounds.js";
import { flagsIn } from "../../src/bench/skim-flags.js";

const far = networkProfile("far");

function started(firstLineMs: number, bytesDown: number) {
  const timeline = [
    [0, bytesDown / 2],
    [firstLineMs / 2, bytesDown / 2],
  ] as const;
  return { firstLineMs, traffic: { connections: 1, requests: 2, bytesUp: 1, bytesDown, timeline } };
}

const measured = (image: string): MeasuredStarts => ({
  image: startImage(image),
  network: far,
  neededBytes: 25e6,
  localMs: [240],
  ways: [
    { name: wayNames.skim, samples: [started(1200, 26e6)] },
    { name: wayNames.profile, samples: [started(500, 28e6)] },
    { name: wayNames.peers, samples: [started(9000, 82e6)] },
  ],
});

describe("the ideal start", () => {
  it("is 3 round trips, the bytes at the speed of the link, and the program itself", () => {
    // 60 ms, 25 MB at 125 MB/s, 240 ms.
    expect(idealMs(far, 25e6, 240)).toBeCloseTo(60 + 200 + 240, 9);
  });
});

describe("figures of starts", () => {
  it("hold numpy on the far network against their targets", () => {
    const [time, bytes] = startFigures(measured("numpy"));
    const outcomes = time!.comparisons.map((one) => [one.row, one.against, outcomeOf(time!, one)]);
    expect(outcomes).toEqual([
      ["skim", "ideal", { value: 2.4, reached: true }],
      ["skim", wayNames.peers, { value: 7.5 }],
      [wayNames.profile, "ideal", { value: 1, reached: true }],
      [wayNames.profile, wayNames.peers, { value: 18, reached: true }],
    ]);
    const profile = bytes!.comparisons.find(({ row }) => row === wayNames.profile)!;
    expect(outcomeOf(bytes!, profile)).toEqual({ value: 1.12, reached: false });
  });

  it("ask more of the large image, and nothing of the others", () => {
    const targets = (image: string) =>
      startFigures(measured(image))[0]!.comparisons.flatMap(({ target }) => (target ? [target] : []));
    expect(targets("torch")).toEqual([{ atLeast: 20 }]);
    expect(targets("node")).toEqual([]);
  });
});

describe("plots of starts", () => {
  it("show the whole image beside what was fetched", () => {
    const [, bytes] = startPlot([measured("numpy")], 82e6);
    expect(bytes).toMatchObject({ kind: "bars", unit: "MB" });
    if (bytes?.kind !== "bars") throw new Error("no bars");
    expect(bytes.groups[0]!.bars.at(-1)).toEqual({ name: "the whole image", value: 82 });
  });

  it("add bytes up over time, and mark the first line", () => {
    const [line] = timelinePlot(measured("numpy")).lines;
    expect(line!.points).toEqual([
      [0, 0],
      [0, 13],
      [0.6, 26],
    ]);
    expect(line!.mark!.x).toBe(1.2);
  });

  it("go from the smallest image to the largest", () => {
    const sizes = new Map([
      ["torch", 1.6e9],
      ["numpy", 82e6],
    ]);
    const [line] = growthPlot([measured("torch"), measured("numpy")], sizes).lines;
    expect(line!.points.map(([x]) => x)).toEqual([82, 1600]);
  });
});

describe("the options of a skim", () => {
  it("are read from its help", () => {
    const runHelp = "Options:\n  --id <id>  name\n  --prefetch <how>  auto, start-set or none\n";
    expect(flagsIn(runHelp, "Commands:\n  run  run an image\n")).toEqual({
      prefetch: true,
      profile: false,
      backgroundFill: false,
      daemon: false,
    });
    const later = flagsIn(
      `${runHelp}  --background-fill <rate>  x\n`,
      "Commands:\n  profile  start profiles\n  run  x\n",
    );
    expect(later).toEqual({ prefetch: true, profile: true, backgroundFill: true, daemon: false });
    expect(flagsIn("Options:\n  --id <id>\n", "Commands:\n  run  without --prefetch\n").prefetch).toBe(false);
  });
});

describe("rounds", () => {
  it("measure systems by turns", async () => {
    const order: string[] = [];
    const subject = (system: string) => ({
      system,
      measure: async () => {
        order.push(system);
        return order.length;
      },
    });
    expect(await samplesByTurns(2, [subject("a"), subject("b")])).toEqual([
      [1, 3],
      [2, 4],
    ]);
    expect(order).toEqual(["a", "b", "a", "b"]);
  });
});
