import { expect, test } from "vitest";
import { SkimError } from "../../src/base/errors.js";
import { buildTar, gnuLongName, paxMember, tarMember, withChecksum } from "../support/tar-builder.js";
import { readTar } from "./tar-reading.js";

const members = [
  tarMember({ path: "d/", type: "directory" }),
  tarMember({ path: "empty" }),
  tarMember({ path: "f", content: Buffer.alloc(1400, 1), xattrs: { "user.a": "b" }, mtimeNsec: 5 }),
  tarMember({ path: "n".repeat(120), format: "gnu", content: Buffer.alloc(512, 2) }),
  tarMember({ path: "l", link: "t".repeat(700) }),
];

test("a tar that is cut at any block is an error, or was cut between two members", () => {
  const tar = Buffer.concat(members);
  const boundaries = new Map<number, number>();
  let at = 0;
  for (const [i, member] of members.entries()) {
    boundaries.set(at, i);
    at += member.length;
  }
  for (let cut = 0; cut < tar.length; cut += 512) {
    const count = boundaries.get(cut);
    if (count !== undefined) {
      expect(readTar(tar.subarray(0, cut), { pieceBytes: 700 }).entries).toHaveLength(count);
      continue;
    }
    expect(() => readTar(tar.subarray(0, cut), { pieceBytes: 700 })).toThrow(
      expect.objectContaining({
        code: "LAYER_CORRUPT",
        message: expect.stringMatching(new RegExp(`^layer 1 of 1: at byte ${cut} .*the tar ends`)),
      }),
    );
  }
});

test("a tar that is cut within a block is an error naming the byte, unless only padding is missing", () => {
  const tar = tarMember({ path: "f", content: "abc" });
  for (let cut = 1; cut < 515; cut++) {
    expect(() => readTar(tar.subarray(0, cut))).toThrow(new RegExp(`at byte ${cut} .*the tar ends`));
  }
  for (let cut = 515; cut < 1024; cut++) expect(readTar(tar.subarray(0, cut)).entries).toHaveLength(1);
});

/** A small generator with a seed (mulberry32), so that a failure can be had again. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const seed = Number(process.env.SKIM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

test(`headers with random bytes and a right checksum are read or refused, never worse (SKIM_TEST_SEED=${seed})`, () => {
  const random = randomNumbers(seed);
  const below = (n: number) => Math.floor(random() * n);
  const outcomes = { read: 0, refused: 0 };
  for (let round = 0; round < 1000; round++) {
    const picked: Buffer[] = Array.from({ length: 1 + below(4) }, () =>
      Buffer.from(members[below(members.length)]!),
    );
    if (below(3) === 0) picked.unshift(paxMember("g", [["SCHILY.xattr.user.g", "1"]]));
    if (below(3) === 0) picked.unshift(gnuLongName("L", "x".repeat(below(300))));
    for (const member of picked) {
      for (let flips = below(4); flips > 0; flips--) member[below(member.length)] = below(256);
      // Mostly repaired, so that what stands in the fields is looked at.
      if (below(8) > 0) withChecksum(member.subarray(0, 512));
    }
    const tar = buildTar(picked);
    const cut = below(4) === 0 ? tar.subarray(0, below(tar.length)) : tar;
    const outcome = (pieceBytes: number) => {
      try {
        return JSON.stringify(readTar(cut, { pieceBytes }));
      } catch (error) {
        if (!(error instanceof SkimError) || error.code === "INTERNAL") throw error;
        return `${error.code} ${error.message}`;
      }
    };
    const whole = outcome(Math.max(1, cut.length));
    expect(outcome(1 + below(600))).toBe(whole);
    outcomes[whole.startsWith("{") ? "read" : "refused"]++;
  }
  // Both happen often, or the test tests nothing.
  expect(outcomes.read).toBeGreaterThan(100);
  expect(outcomes.refused).toBeGreaterThan(100);
});

test("pax headers of random records are read or refused, never worse", () => {
  const random = randomNumbers(seed + 1);
  const below = (n: number) => Math.floor(random() * n);
  const keys = [
    "path",
    "size",
    "uid",
    "mtime",
    "SCHILY.xattr.a",
    "GNU.sparse.map",
    "GNU.sparse.offset",
    "GNU.sparse.numbytes",
    "GNU.sparse.size",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.numblocks",
    "GNU.sparse.name",
  ];
  const values = [
    "",
    "0",
    "1",
    "-1",
    "1.5",
    "0,1",
    "0,1,5,2",
    "99",
    "9007199254740993",
    "\0",
    "x",
    "1\n",
    ",",
  ];
  let refused = 0;
  for (let round = 0; round < 1000; round++) {
    const pax = Array.from(
      { length: 1 + below(5) },
      () => [keys[below(keys.length)]!, values[below(values.length)]!] as const,
    );
    try {
      const { entries } = readTar(buildTar([{ path: "f", content: Buffer.alloc(below(3) * 600, 1), pax }]));
      for (const { fileBytes, extents } of entries) {
        let end = 0;
        for (const { fileOffset, length } of extents) {
          expect(fileOffset).toBeGreaterThanOrEqual(end);
          end = fileOffset + length;
        }
        expect(end).toBeLessThanOrEqual(fileBytes);
      }
    } catch (error) {
      if (!(error instanceof SkimError) || error.code === "INTERNAL") throw error;
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(100);
  expect(refused).toBeLessThan(900);
});
