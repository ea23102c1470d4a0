/** Cold starts: time to the first line, and bytes from the registry, by image, network and way. */

import type { Comparison, Figure } from "../../src/bench/figure.js";
import type { FirstLine } from "../../src/bench/first-line.js";
import type { Bar, Line, LinePlot, Plot } from "../../src/bench/plot.js";
import { median } from "../../src/bench/statistics.js";
import type { NetworkProfile } from "../network/profiles.js";
import type { TrafficReport } from "../network/traffic.js";
import { runUnderRunc } from "./runc-bundle.js";
import type { StartBench } from "./start-bench.js";
import type { StartImage } from "./start-images.js";
import { wayNames, waysOf } from "./ways.js";

/** One start of one way. */
export interface StartSample {
  readonly firstLineMs: number;
  readonly traffic: TrafficReport;
}

/** All starts of one image behind one network. */
export interface MeasuredStarts {
  readonly image: StartImage;
  readonly network: NetworkProfile;
  readonly ways: readonly { readonly name: string; readonly samples: readonly StartSample[] }[];
  /** The unpacked tree under runc, everything in memory. */
  readonly localMs: readonly number[];
  readonly neededBytes: number;
}

/** Connecting, the manifest, the first range: nobody can start with fewer round trips than these. */
const roundTripsOfIdeal = 3;

export async function measureStarts(
  bench: StartBench,
  image: StartImage,
  network: NetworkProfile,
): Promise<MeasuredStarts> {
  const tree = await bench.unpacked(image);
  const local = async () =>
    await runUnderRunc(`${await bench.place()}/runc`, tree, image.command, bench.signal);
  const neededBytes = await bench.neededBytes(image);
  // Into memory.
  await bench.emptied(local);
  const localMs: number[] = [];
  const ways = waysOf(bench);
  const samples = await bench.samples(
    ways.map((way, first) => ({
      system: way.name,
      measure: async (): Promise<StartSample> => {
        if (first === 0) localMs.push((await local()).firstLineMs);
        const prepared = await way.prepare(image);
        try {
          const { result, traffic } = await bench.behind<FirstLine>(network, () => prepared.start());
          return { firstLineMs: result.firstLineMs, traffic };
        } finally {
          await prepared.done?.();
        }
      },
    })),
  );
  const named = ways.map(({ name }, way) => ({ name, samples: samples[way]! }));
  return { image, network, ways: named, localMs, neededBytes };
}

/** 3 round trips, the bytes that are needed at the speed of the link, and the time the program takes with its files in memory. */
export function idealMs(
  { roundTripMs, bitsPerSecond }: NetworkProfile,
  neededBytes: number,
  localMs: number,
): number {
  return roundTripsOfIdeal * roundTripMs + (neededBytes * 8 * 1000) / bitsPerSecond + localMs;
}

export function startFigures({ image, network, ways, localMs, neededBytes }: MeasuredStarts): Figure[] {
  const where = `${image.title}; ${network.name}: ${network.roundTripMs} ms, ${network.bitsPerSecond / 1e9} Gbit/s`;
  const time: Figure = {
    name: `start/${image.name}/${network.name}`,
    title: `from the command to the first line, nothing fetched before. ${where}`,
    rows: [
      {
        system: "ideal",
        unit: "s",
        samples: localMs.map((one) => idealMs(network, neededBytes, one) / 1000),
      },
      ...ways.map(({ name, samples }) => ({
        system: name,
        unit: "s",
        samples: samples.map(({ firstLineMs }) => firstLineMs / 1000),
      })),
    ],
    comparisons: timeComparisons(
      image.name,
      network.name,
      ways.map(({ name }) => name),
    ),
  };
  const megabytes = (bytes: number) => bytes / 1e6;
  const bytes: Figure = {
    name: `bytes/${image.name}/${network.name}`,
    title: `bytes from the registry until the program had ended. ${where}`,
    rows: [
      { system: "needed", unit: "MB", samples: [megabytes(neededBytes)] },
      ...ways.map(({ name, samples }) => ({
        system: name,
        unit: "MB",
        samples: samples.map(({ traffic }) => megabytes(traffic.bytesDown)),
      })),
    ],
    comparisons: ways
      .filter(({ name }) => name.startsWith("skim") && name !== wayNames.unpack)
      .map(({ name }) => ({
        row: name,
        against: "needed",
        ...(name === wayNames.profile || name === wayNames.daemon ? { target: { atMost: 1.1 } } : {}),
      })),
  };
  return [time, bytes];
}

function timeComparisons(image: string, network: string, ways: readonly string[]): Comparison[] {
  const far = network === "far";
  const numpy = far && image === "numpy";
  const all: Comparison[] = [
    { row: wayNames.withoutPrefetch, against: "ideal" },
    { row: wayNames.skim, against: "ideal", ...(numpy ? { target: { atMost: 2.5 } } : {}) },
    { row: wayNames.skim, against: wayNames.peers, inverse: true },
    { row: wayNames.profile, against: "ideal", ...(numpy ? { target: { atMost: 1.5 } } : {}) },
    {
      row: wayNames.profile,
      against: wayNames.peers,
      inverse: true,
      ...(numpy ? { target: { atLeast: 8 } } : far && image === "torch" ? { target: { atLeast: 20 } } : {}),
    },
    { row: wayNames.daemon, against: "ideal", ...(numpy ? { target: { atMost: 1.5 } } : {}) },
    {
      row: wayNames.daemon,
      against: wayNames.peers,
      inverse: true,
      ...(numpy ? { target: { atLeast: 8 } } : far && image === "torch" ? { target: { atLeast: 20 } } : {}),
    },
    { row: wayNames.unpack, against: wayNames.peers, inverse: true },
  ];
  return all.filter(({ row }) => ways.includes(row));
}

/** What a report draws of one image: a bar for each way, behind each network; and the bytes beside those of the whole image. */
export function startPlot(starts: readonly MeasuredStarts[], imageBytes: number): Plot[] {
  const [first] = starts;
  if (!first) return [];
  const bars = ({ rows }: Figure): Bar[] =>
    rows.map(({ system, samples }) => ({
      name: system,
      value: median(samples),
      low: Math.min(...samples),
      high: Math.max(...samples),
    }));
  const groups = starts.map((one) => {
    const [time, bytes] = startFigures(one) as [Figure, Figure];
    const { name, roundTripMs, bitsPerSecond } = one.network;
    return { name: `${name}: ${roundTripMs} ms, ${bitsPerSecond / 1e9} Gbit/s`, time, bytes };
  });
  const whole = { name: "the whole image", value: imageBytes / 1e6 };
  const { title } = first.image;
  return [
    {
      kind: "bars",
      title: `${title}: from the command to the first line`,
      unit: "s",
      groups: groups.map(({ name, time }) => ({ name, bars: bars(time) })),
    },
    {
      kind: "bars",
      title: `${title}: bytes from the registry`,
      unit: "MB",
      groups: groups.map(({ name, bytes }) => ({ name, bars: [...bars(bytes), whole] })),
    },
  ];
}

/** Bytes over the time of a start, of the first round of each way; the mark is the first line. */
export function timelinePlot({ image, network, ways }: MeasuredStarts): LinePlot {
  const lines = ways.flatMap(({ name, samples: [sample] }): Line[] => {
    if (!sample) return [];
    let bytes = 0;
    const points = sample.traffic.timeline.map(([ms, more]) => {
      bytes += more;
      return [ms / 1000, bytes / 1e6] as const;
    });
    const mark = { x: sample.firstLineMs / 1000, name: "first line" };
    return [{ name, points: [[0, 0], ...points], mark }];
  });
  return {
    kind: "lines",
    title: `${image.name}, ${network.name}: what is fetched during a start`,
    xTitle: "seconds since the command",
    yTitle: "MB",
    lines,
  };
}

/** What a start costs as images grow: one dot for each image that was measured behind the same network. */
export function growthPlot(
  starts: readonly MeasuredStarts[],
  imageBytes: ReadonlyMap<string, number>,
): LinePlot {
  const names = [...new Set(starts.flatMap(({ ways }) => ways.map(({ name }) => name)))];
  const size = ({ image }: MeasuredStarts) => (imageBytes.get(image.name) ?? 0) / 1e6;
  const bySize = starts.toSorted((a, b) => size(a) - size(b));
  return {
    kind: "lines",
    title: `${starts[0]?.network.name}: time to the first line as images grow`,
    xTitle: "MB of the image, compressed",
    yTitle: "s",
    lines: names.map((name) => ({
      name,
      dots: true,
      points: bySize.flatMap((one) => {
        const samples = one.ways.find((way) => way.name === name)?.samples ?? [];
        if (samples.length === 0) return [];
        return [[size(one), median(samples.map(({ firstLineMs }) => firstLineMs)) / 1000] as const];
      }),
    })),
  };
}
