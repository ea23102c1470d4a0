import { expect, test } from "vitest";
import { base256, buildTar, padded, tarMember } from "../support/tar-builder.js";
import { contentOf, corrupt, entryAt, readTar } from "./tar-reading.js";

type Piece = readonly [offset: number, bytes: Buffer];

const octal12 = (value: number) => `${value.toString(8).padStart(11, "0")}\0`;

/** Old GNU: `inHeader` entries in the header, 21 in each block behind it. */
function oldSparse(path: string, realBytes: number, pieces: readonly Piece[], inHeader = 4): Buffer {
  const data = Buffer.concat(pieces.map(([, bytes]) => bytes));
  const entries = pieces.map(([offset, bytes]) =>
    Buffer.from(octal12(offset) + octal12(bytes.length), "latin1"),
  );
  const blocks: Buffer[] = [];
  for (let at = inHeader; at < entries.length; at += 21) {
    const block = Buffer.alloc(512);
    Buffer.concat(entries.slice(at, at + 21)).copy(block);
    block[504] = at + 21 < entries.length ? 1 : 0;
    blocks.push(block);
  }
  const header = tarMember({
    path,
    typeflag: "S",
    format: "gnu",
    size: data.length,
    header: (block) => {
      Buffer.concat(entries.slice(0, inHeader)).copy(block, 386);
      block[482] = blocks.length > 0 ? 1 : 0;
      block.write(octal12(realBytes), 483, "latin1");
    },
  });
  return Buffer.concat([header, ...blocks, padded(data)]);
}

/** Pax 1.0: the map in front of the data. */
function sparse10(path: string, realBytes: number, map: string, data: Buffer): Buffer {
  const content = Buffer.concat([padded(Buffer.from(map)), data]);
  return tarMember({
    path: "GNUSparseFile.1/f",
    content,
    pax: [
      ["GNU.sparse.major", "1"],
      ["GNU.sparse.minor", "0"],
      ["GNU.sparse.name", path],
      ["GNU.sparse.realsize", String(realBytes)],
    ],
  });
}

const pieces: Piece[] = Array.from({ length: 60 }, (_, i) => [
  i * 5000 + 100,
  Buffer.alloc(i * 7 + 1, i + 1),
]);
const real = 60 * 5000;
const expected = Buffer.alloc(real);
for (const [offset, bytes] of pieces) bytes.copy(expected, offset);
const data = Buffer.concat(pieces.map(([, bytes]) => bytes));
const numbers = pieces.flatMap(([offset, bytes]) => [offset, bytes.length]);

const forms: Array<[name: string, member: Buffer]> = [
  ["old GNU", oldSparse("sparse", real, pieces)],
  [
    "pax 0.0",
    tarMember({
      path: "sparse",
      content: data,
      pax: [
        ["GNU.sparse.size", String(real)],
        ["GNU.sparse.numblocks", "60"],
        ...numbers.map(
          (n, i) => [i % 2 === 0 ? "GNU.sparse.offset" : "GNU.sparse.numbytes", String(n)] as const,
        ),
      ],
    }),
  ],
  [
    "pax 0.1",
    tarMember({
      path: "GNUSparseFile.1/f",
      content: data,
      pax: [
        ["GNU.sparse.size", String(real)],
        ["GNU.sparse.numblocks", "60"],
        ["GNU.sparse.map", numbers.join(",")],
        ["GNU.sparse.name", "sparse"],
      ],
    }),
  ],
  ["pax 1.0", sparse10("sparse", real, `60\n${numbers.join("\n")}\n`, data)],
];

test.each(forms)("a sparse file as %s reads with its holes, in pieces of any size", (_, member) => {
  const tar = buildTar([{ path: "before" }, member, { path: "after", content: "still in step" }]);
  for (const pieceBytes of [1, 511, 512, 513, tar.length]) {
    const reading = readTar(tar, { pieceBytes });
    expect(reading.entries.map((entry) => entry.path)).toEqual(["before", "sparse", "after"]);
    const entry = entryAt(reading, "sparse");
    expect(entry.extents).toHaveLength(60);
    expect(contentOf(entry, tar).equals(expected)).toBe(true);
    expect(contentOf(entryAt(reading, "after"), tar).toString()).toBe("still in step");
  }
});

test("pieces that touch are one extent, empty pieces none", () => {
  const member = sparse10("s", 100, "4\n0\n10\n10\n10\n20\n0\n100\n0\n", Buffer.alloc(20, 1));
  const [entry] = readTar(buildTar([member])).entries;
  expect(entry).toMatchObject({
    fileBytes: 100,
    extents: [{ fileOffset: 0, layerOffset: 2048, length: 20 }],
  });
});

test("a file that is one hole has no extents, however large it is", () => {
  const huge = 2 ** 52;
  const [entry] = readTar(buildTar([sparse10("hole", huge, `1\n${huge}\n0\n`, Buffer.alloc(0))])).entries;
  expect(entry).toMatchObject({ fileBytes: huge, extents: [] });
  const base = oldSparse("hole", 0, []);
  const old = tarMember({
    path: "hole",
    typeflag: "S",
    format: "gnu",
    header: (block) => void base256(huge, 12).copy(block, 483),
  });
  expect(readTar(buildTar([base, old])).entries.map((hole) => hole.fileBytes)).toEqual([0, huge]);
});

test("an old GNU map may leave its header's entries empty and go on in the blocks behind it", () => {
  const tar = buildTar([oldSparse("sparse", real, pieces, 0)]);
  const reading = readTar(tar);
  expect(contentOf(entryAt(reading, "sparse"), tar).equals(expected)).toBe(true);
});

test("an unknown sparse version is an ordinary file", () => {
  const member = tarMember({ path: "f", content: "abc", pax: [["GNU.sparse.major", "2"]] });
  expect(readTar(buildTar([member])).entries[0]).toMatchObject({ fileBytes: 3, extents: [{ length: 3 }] });
});

test.each([
  ["out of order", "2\n50\n5\n0\n5\n", 10],
  ["that overlaps itself", "2\n0\n5\n4\n5\n", 10],
  ["beyond the file's end", "1\n96\n5\n", 5],
  ["of more bytes than are stored", "1\n0\n50\n", 10],
  ["of fewer bytes than are stored", "1\n0\n5\n", 10],
  ["with a letter in it", "1\n0\nx\n", 10],
  ["with an empty line", "1\n\n5\n", 5],
  ["with a number of many digits", `1\n${"9".repeat(17)}\n5\n`, 5],
  ["with a number beyond 2^53", `1\n${"9".repeat(16)}\n5\n`, 5],
  ["with a negative number", "1\n-1\n5\n", 5],
  ["that never ends", "1000000\n0\n", 0],
])("a sparse map %s is refused", (_, map, stored) => {
  const member = sparse10("s", 100, map, Buffer.alloc(stored, 1));
  expect(() => readTar(buildTar([member]))).toThrow(corrupt(/layer 1 of 1: at byte \d+ .*(map|size)/));
});

test("sparse maps on directories, without their data, or not as long as announced are refused", () => {
  const pax = (records: ReadonlyArray<readonly [string, string]>, type: "file" | "directory" = "file") =>
    buildTar([{ path: "s", type, pax: records }]);
  const map = ["GNU.sparse.map", "0,1"] as const;
  expect(() => readTar(pax([map], "directory"))).toThrow(corrupt(/directory with a map/));
  expect(() => readTar(pax([["GNU.sparse.numblocks", "2"], ["GNU.sparse.size", "9"], map]))).toThrow(
    corrupt(/not as long/),
  );
  expect(() => readTar(pax([["GNU.sparse.map", "0,1,2"]]))).toThrow(corrupt(/not as long/));
  expect(() => readTar(pax([["GNU.sparse.numbytes", "1"]]))).toThrow(corrupt(/out of turn/));
  expect(() =>
    readTar(
      pax([
        ["GNU.sparse.major", "1"],
        ["GNU.sparse.minor", "0"],
      ]),
    ),
  ).toThrow(corrupt(/without its map/));
  expect(() => readTar(buildTar([{ path: "s", typeflag: "S", content: "x" }]))).toThrow(corrupt(/not GNU's/));
});

test("the pieces of sparse files count against the limit of members", () => {
  const member = forms[0]![1];
  expect(readTar(buildTar([member]), { entriesMax: 60 }).entries).toHaveLength(1);
  const over = expect.objectContaining({ code: "LIMIT_EXCEEDED" });
  expect(() => readTar(buildTar([member]), { entriesMax: 50 })).toThrow(over);
  expect(() => readTar(buildTar([member, { path: "one more" }]), { entriesMax: 60 })).toThrow(over);
});
