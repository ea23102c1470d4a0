import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { digestOf } from "../../src/image/digest.js";
import {
  addProfiles,
  chooseProfile,
  type ImageProfiles,
  mergeProfiles,
  parseProfiles,
  profileOf,
  type StartProfile,
  spansOf,
} from "../../src/profile/start-profile.js";
import { gzipBlob, type ScannedArchive, sampleBytes, scanLayers } from "../content/scanned-layers.js";

const blobs = [gzipBlob(sampleBytes(1 << 20)), gzipBlob(sampleBytes(1 << 19))];
const at = (day: number) => new Date(Date.UTC(2026, 0, day));

async function recorded(touched: [span: number, ms: number][], command = ["app"], day = 1) {
  const archive = await scanLayers(blobs);
  const profile = profileOf(
    archive,
    command,
    touched.map(([span, ms]) => ({ span, ms })),
    at(day),
  );
  return { archive, profile };
}

function imageProfiles(...profiles: StartProfile[]): ImageProfiles {
  return { profileVersion: 1, manifestDigest: digestOf(Buffer.from("image")), profiles };
}

describe("a start profile", () => {
  it("gives the spans back in the order of need", async () => {
    const { archive, profile } = await recorded([
      [20, 3],
      [2, 1],
      [9, 2],
    ]);
    expect(spansOf(profile, archive)).toEqual([2, 9, 20]);
  });

  it("fits an index of the same image with another span size, and covers every byte", async () => {
    const { archive, profile } = await recorded([
      [3, 1],
      [4, 2],
      [17, 3],
    ]);
    for (const spanBytes of [128 * 1024, 300_000]) {
      const other = await scanLayers(blobs, spanBytes);
      const spans = spansOf(profile, other);
      for (const read of profile.reads) expect(isCovered(other, spans, read)).toBe(true);
      expect(spans.length).toBeLessThanOrEqual(profile.reads.length * 2);
    }
    expect(spansOf(profile, archive)).toHaveLength(3);
  });

  it("passes over layers that the image does not have, and ranges that a layer does not have", async () => {
    const { archive, profile } = await recorded([[3, 1]]);
    const [read] = profile.reads;
    const reads = [
      { ...read!, layer: digestOf(Buffer.from("another layer")) },
      { ...read!, offset: 1 << 30 },
      { ...read!, offset: (1 << 20) - 1, length: 1 << 30 },
      read!,
    ];
    expect(spansOf({ ...profile, reads }, archive)).toEqual([archive.layers[0]!.spanCount - 1, 3]);
  });

  it("merges runs: mean times, and what one run in four has read", async () => {
    const { archive, profile } = await recorded([
      [1, 10],
      [2, 20],
    ]);
    let merged = profile;
    for (let run = 2; run <= 5; run++) {
      const next = (await recorded([[1, 30], ...(run < 3 ? [[5, 1] as [number, number]] : [])])).profile;
      merged = mergeProfiles(merged, next);
    }
    expect(merged.runs).toBe(5);
    expect(merged.reads.find(({ ms }) => ms === 26)).toMatchObject({ hits: 5 });
    // Span 2 was read by one run in five, and span 5 as well.
    expect(spansOf(merged, archive)).toEqual([1]);
  });

  it("forgets what no run has needed for long", async () => {
    let merged = (await recorded([[7, 1]])).profile;
    for (let run = 0; run < 100; run++) merged = mergeProfiles(merged, (await recorded([[1, 1]])).profile);
    expect(merged.runs).toBeLessThanOrEqual(20);
    expect(merged.reads).toHaveLength(1);
  }, 60_000);
});

describe("the profile of a command", () => {
  it("is its own, else that of the same program with the most words in common", async () => {
    const profiles = imageProfiles(
      (await recorded([[1, 1]], ["python3", "-m", "http.server"])).profile,
      (await recorded([[2, 1]], ["python3", "-c", "import numpy"])).profile,
      (await recorded([[3, 1]], ["sh", "-c", "import numpy"])).profile,
    );
    const choose = (...command: string[]) => chooseProfile(profiles, command)?.command.join(" ");
    expect(choose("python3", "-c", "import numpy")).toBe("python3 -c import numpy");
    expect(choose("python3", "-c", "import torch")).toBe("python3 -c import numpy");
    expect(choose("python3")).toBe("python3 -m http.server");
    expect(choose("node", "-c", "import numpy")).toBe(undefined);
    expect(choose()).toBe(undefined);
  });

  it("is the one that was recorded most often, where the command is not known", async () => {
    const often = mergeProfiles(
      (await recorded([[1, 1]], ["b"])).profile,
      (await recorded([[1, 1]])).profile,
    );
    const profiles = imageProfiles((await recorded([[1, 1]], ["a"])).profile, often);
    expect(chooseProfile(profiles, undefined)?.command).toEqual(["b"]);
    expect(chooseProfile(imageProfiles(), undefined)).toBe(undefined);
  });

  it("makes room for newer ones", async () => {
    let profiles = imageProfiles();
    for (let day = 1; day <= 70; day++)
      profiles = addProfiles(profiles, [(await recorded([[1, 1]], [`app ${day}`], day)).profile]);
    expect(profiles.profiles).toHaveLength(64);
    expect(chooseProfile(profiles, ["app 1"])).toBe(undefined);
    expect(chooseProfile(profiles, ["app 70"])).toBeDefined();
  });
});

describe("an exported profile", () => {
  it("comes back as it was", async () => {
    const { profile } = await recorded([
      [1, 1.5],
      [2, 2],
    ]);
    const profiles = imageProfiles(profile);
    expect(parseProfiles(JSON.stringify(profiles), "a file")).toEqual(profiles);
  });

  it("comes back from a command line that is longer than is kept", async () => {
    const words = Array.from({ length: 5000 }, (_, word) => `${word}`);
    const { profile } = await recorded([[1, 0]], words);
    const kept = parseProfiles(JSON.stringify(imageProfiles(profile)), "here");
    expect(chooseProfile(kept, words)).toEqual(profile);
    const again = addProfiles(kept, [(await recorded([[1, 0]], words)).profile]);
    expect(again.profiles).toMatchObject([{ runs: 2 }]);
  });

  it("is refused with a word about what does not fit", async () => {
    const { profile } = await recorded([[1, 1]]);
    const good = JSON.parse(JSON.stringify(imageProfiles(profile)));
    const bad: [unknown, RegExp][] = [
      [[], /the document: not an object/],
      [{ ...good, profileVersion: 2 }, /profileVersion is 2, not 1/],
      [{ ...good, manifestDigest: "sha256:short" }, /manifestDigest: not a digest/],
      [{ ...good, profiles: [{ ...good.profiles[0], command: [1] }] }, /profiles\.0\.command/],
      [{ ...good, profiles: [{ ...good.profiles[0], runs: 0 }] }, /profiles\.0\.runs/],
      [{ ...good, profiles: [{ ...good.profiles[0], recordedAt: "yesterday" }] }, /recordedAt/],
      [
        { ...good, profiles: [{ ...good.profiles[0], reads: [{ ...profile.reads[0], offset: -1 }] }] },
        /profiles\.0\.reads\.0\.offset: not a whole number/,
      ],
    ];
    for (const [json, message] of bad)
      expect(() => parseProfiles(JSON.stringify(json), "given.json")).toThrow(message);
    expect(() => parseProfiles("{", "given.json")).toThrow(/^given\.json is no start profile/);
  });

  it("never throws anything else, whatever it is", () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        try {
          parseProfiles(text, "x");
          return true;
        } catch (error) {
          return (error as { code?: string }).code === "USAGE";
        }
      }),
    );
  });
});

function isCovered(archive: ScannedArchive, spans: number[], read: StartProfile["reads"][number]): boolean {
  const layer = archive.layers.findIndex(({ digest }) => digest === read.layer);
  const [first, last] = [read.offset, read.offset + read.length - 1].map((byte) =>
    archive.spanIndexAt(layer, byte),
  );
  for (let span = first!; span <= last!; span++) if (!spans.includes(span)) return false;
  return true;
}
