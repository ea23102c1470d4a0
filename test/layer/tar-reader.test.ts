import { describe, expect, test } from "vitest";
import { base256, buildTar, padded, tarMember, withChecksum } from "../support/tar-builder.js";
import { contentOf, corrupt, entryAt, only, readTar } from "./tar-reading.js";

describe("members", () => {
  test("every kind of member comes with all its fields", () => {
    const tar = buildTar([
      { path: "./", type: "directory", mode: 0o711, uid: 5, gid: 6, mtimeSec: 7 },
      { path: "bin/su", mode: 0o4755, content: "setuid" },
      { path: "hard", type: "hardlink", link: "bin/su" },
      { path: "soft", link: "../..//bin/su" },
      { path: "dev/null", type: "character", mode: 0o666, major: 1, minor: 3 },
      { path: "dev/sda", type: "block", major: 8, minor: 0xfffff },
      { path: "run/pipe", type: "fifo" },
    ]);
    const { entries, warnings } = readTar(tar);
    expect(warnings).toEqual([]);
    expect(entries.map(({ path, type, mode }) => [path, type, mode.toString(8)])).toEqual([
      ["./", "directory", "711"],
      ["bin/su", "file", "4755"],
      ["hard", "hardlink", "644"],
      ["soft", "symlink", "777"],
      ["dev/null", "character", "666"],
      ["dev/sda", "block", "644"],
      ["run/pipe", "fifo", "644"],
    ]);
    expect(entries[0]).toEqual({
      path: "./",
      type: "directory",
      mode: 0o711,
      uid: 5,
      gid: 6,
      fileBytes: 0,
      mtimeSec: 7,
      mtimeNsec: 0,
      linkTarget: "",
      deviceMajor: 0,
      deviceMinor: 0,
      xattrs: [],
      extents: [],
    });
    expect(entries[1]).toMatchObject({
      fileBytes: 6,
      extents: [{ fileOffset: 0, layerOffset: 1024, length: 6 }],
    });
    expect(entries[2]).toMatchObject({ linkTarget: "bin/su", fileBytes: 0, extents: [] });
    expect(entries[3]!.linkTarget).toBe("../..//bin/su");
    expect(entries[4]).toMatchObject({ deviceMajor: 1, deviceMinor: 3 });
    expect(entries[5]).toMatchObject({ deviceMajor: 8, deviceMinor: 0xfffff });
  });

  test("mode keeps setuid, setgid and sticky, and drops the type bits that old tars put there", () => {
    expect(only({ path: "a", mode: 0o107777 }).mode).toBe(0o7777);
  });

  test.each([1, 511, 512, 513, 1000, 4096])(
    "pieces of %i bytes give the same entries as the whole",
    (pieceBytes) => {
      const tar = buildTar([
        { path: "a/", type: "directory" },
        { path: "empty" },
        { path: "one block", content: Buffer.alloc(512, 1) },
        {
          path: "n".repeat(200),
          content: Buffer.alloc(1500, 2),
          xattrs: { "user.a": Buffer.from([0, 255]) },
        },
        { path: `${"d/".repeat(200)}f`, format: "gnu", content: "x" },
        { path: "link", link: "t".repeat(300), format: "gnu" },
        { path: "last", content: Buffer.alloc(513, 3) },
      ]);
      const whole = readTar(tar);
      expect(readTar(tar, { pieceBytes })).toEqual(whole);
      expect(contentOf(entryAt(whole, "n".repeat(200)), tar)).toEqual(Buffer.alloc(1500, 2));
      expect(contentOf(entryAt(whole, "last"), tar)).toEqual(Buffer.alloc(513, 3));
    },
  );

  test("names are bytes: what is not UTF-8, a newline, a backslash and a leading slash stay as they are", () => {
    const name = Buffer.from([0x2f, 0x61, 0xff, 0xfe, 0x0a, 0x5c, 0x20]);
    const long = Buffer.concat([name, Buffer.alloc(200, 0xe9)]);
    for (const path of [name, long]) {
      for (const format of ["ustar", "gnu"] as const) {
        expect(only({ path, format }).path).toBe(path.toString("latin1"));
        expect(only({ path: "l", link: path, format }).linkTarget).toBe(path.toString("latin1"));
      }
    }
  });

  test("an ustar prefix stands before the name, also where both fields are full to the last byte", () => {
    const prefix = "p".repeat(155);
    const name = "n".repeat(100);
    const header = (block: Buffer) => block.write(prefix, 345);
    expect(only({ path: name, header }).path).toBe(`${prefix}/${name}`);
  });

  test("star's prefix ends before its times", () => {
    const path = only({
      path: "name",
      header: (block) => {
        block.write("p".repeat(131), 345);
        block.write("00000000001\0", 476);
        block.write("tar\0", 508);
      },
    }).path;
    expect(path).toBe(`${"p".repeat(131)}/name`);
  });

  test("GNU's times in the place of the prefix are no part of the name, Go's prefix under GNU's magic is", () => {
    const times = (block: Buffer) => block.write("14501234567\x0014501234567\0", 345, "latin1");
    expect(only({ path: "name", format: "gnu", header: times }).path).toBe("name");
    const prefix = (block: Buffer) => block.write("usr/share", 345);
    expect(only({ path: "name", format: "gnu", header: prefix }).path).toBe("usr/share/name");
  });

  test("a v7 header has neither prefix nor devices, and a trailing slash makes a directory of its file", () => {
    const header = (block: Buffer) => block.write("garbage", 345);
    expect(only({ path: "name", format: "v7", header })).toMatchObject({ path: "name", type: "file" });
    expect(only({ path: "dir/", type: "file", format: "v7", typeflag: "\0" }).type).toBe("directory");
    expect(only({ path: "dir/", type: "file", format: "v7" }).type).toBe("directory");
    expect(only({ path: "dir/", type: "file", typeflag: "\0" }).type).toBe("directory");
  });

  test("typeflags NUL and 7 are files", () => {
    for (const typeflag of ["\0", "7"]) {
      expect(only({ path: "f", typeflag, content: "abc" })).toMatchObject({ type: "file", fileBytes: 3 });
    }
  });

  test("a size on a directory, link or device is no content", () => {
    const { entries } = readTar(
      buildTar([
        { path: "d/", type: "directory", size: 4096 },
        { path: "h", type: "hardlink", link: "x", size: 99999 },
        { path: "s", link: "x", size: 512 },
        { path: "c", type: "character", size: 1 },
        { path: "p", type: "fifo", size: 7 },
        { path: "end" },
      ]),
    );
    expect(entries.map((entry) => entry.path)).toEqual(["d/", "h", "s", "c", "p", "end"]);
    expect(entries.every((entry) => entry.fileBytes === 0 && entry.extents.length === 0)).toBe(true);
  });

  test("a hard link that does carry its file's bytes is skipped over them", () => {
    const content = Buffer.alloc(1300, "data of the link ");
    const link = tarMember({ path: "h", type: "hardlink", link: "f", pax: [["size", "1300"]] });
    const tar = buildTar([{ path: "f", content }, link, padded(content), { path: "end", content: "." }]);
    for (const pieceBytes of [1, 512, tar.length]) {
      const reading = readTar(tar, { pieceBytes });
      expect(reading.entries.map((entry) => entry.path)).toEqual(["f", "h", "end"]);
      expect(contentOf(entryAt(reading, "end"), tar).toString()).toBe(".");
    }
    // The bytes are looked for behind a hard link only, and only once.
    const twice = buildTar([link, padded(content), padded(content)]);
    expect(() => readTar(twice)).toThrow(corrupt(/no tar header/));
  });

  test("a volume label and other members that are no files are left out with a warning, content and all", () => {
    const reading = readTar(
      buildTar([
        { path: "label", typeflag: "V" },
        { path: "rest", typeflag: "M", content: "x".repeat(600) },
        { path: "names", typeflag: "N", content: "y" },
        { path: "file", content: "z" },
      ]),
    );
    expect(reading.entries.map((entry) => entry.path)).toEqual(["file"]);
    expect(reading.warnings).toHaveLength(3);
    expect(reading.warnings[0]).toMatch(/"label" is a GNU volume label and was left out/);
  });

  test("a GNU directory with a list of names is a directory", () => {
    const reading = readTar(
      buildTar([
        { path: "d/", typeflag: "D", content: "Yname\0\0" },
        { path: "f", content: "z" },
      ]),
    );
    expect(reading.entries.map(({ path, type }) => [path, type])).toEqual([
      ["d/", "directory"],
      ["f", "file"],
    ]);
  });

  test("a member of an unknown type is a file, with a warning", () => {
    const reading = readTar(buildTar([{ path: "odd", typeflag: "Q", content: "abc" }, { path: "f" }]));
    expect(reading.entries[0]).toMatchObject({ path: "odd", type: "file", fileBytes: 3 });
    expect(reading.warnings).toEqual(['"odd" is of the unknown type "Q" and taken for a file']);
  });

  test("an AUFS name, a whiteout and a path with .. are entries like any other", () => {
    const paths = [".wh.x", "d/.wh..wh..opq", ".wh..wh.plnk/1", "../../etc/passwd", "/abs"];
    const { entries } = readTar(buildTar(paths.map((path) => ({ path }))));
    expect(entries.map((entry) => entry.path)).toEqual(paths);
  });
});

describe("numbers", () => {
  const uidField = (text: string) => (block: Buffer) => {
    block.fill(0, 108, 116);
    block.write(text, 108, "latin1");
  };
  test.each([
    ["0000755\0", 0o755],
    ["    755 ", 0o755],
    ["\0\x00755\0\0", 0o755],
    ["77777777", 0o77777777],
    ["755\0junk", 0o755],
    ["", 0],
    ["        ", 0],
  ])("octal field %j is %i", (text, value) => {
    expect(only({ path: "f", header: uidField(text) }).uid).toBe(value);
  });

  test.each(["x", "8", "-1", "7a", "0x1f"])("octal field %j is refused", (text) => {
    expect(() => only({ path: "f", header: uidField(text) })).toThrow(corrupt(/at byte 0 .*uid/));
  });

  test("base-256 ids reach beyond 2^21, also in pax records", () => {
    const big = { path: "f", uid: 4_000_000_000, gid: 0o10000000 };
    expect(only({ ...big, format: "gnu" })).toMatchObject({ uid: 4_000_000_000, gid: 0o10000000 });
    expect(only(big)).toMatchObject({ uid: 4_000_000_000, gid: 0o10000000 });
  });

  test("a negative id is the one that the kernel would make of it; -1 and what exceeds 32 bits are refused", () => {
    const uid = (value: number | bigint) => ({
      path: "f",
      header: (block: Buffer) => void base256(value, 8).copy(block, 108),
    });
    expect(only(uid(-2)).uid).toBe(4_294_967_294);
    for (const value of [-1, 0xffffffff, 2 ** 32, -(2 ** 31) - 1]) {
      expect(() => only(uid(value))).toThrow(corrupt(/uid/));
    }
    expect(() => only({ path: "f", pax: [["gid", "4294967295"]] })).toThrow(corrupt(/gid/));
  });

  test("base-256 sizes and times: beyond 8 GiB, negative, and refused beyond 2^53", () => {
    const at = (offset: number, value: number | bigint) => ({
      path: "f",
      header: (block: Buffer) => void base256(value, 12).copy(block, offset),
    });
    expect(only(at(136, -1)).mtimeSec).toBe(-1);
    expect(only(at(136, -62_135_596_800)).mtimeSec).toBe(-62_135_596_800);
    expect(only(at(136, 2 ** 40)).mtimeSec).toBe(2 ** 40);
    for (const value of [2n ** 53n, 2n ** 80n, -(2n ** 60n)]) {
      expect(() => only(at(136, value))).toThrow(corrupt(/mtime/));
    }
    expect(() => only(at(124, -5))).toThrow(corrupt(/negative size/));
    expect(() => only(at(124, 2n ** 53n - 1n))).toThrow(corrupt(/impossible size/));
    // 9 GB that are not there: the size is believed, and missed at the end.
    expect(() => only(at(124, 9_000_000_000))).toThrow(corrupt(/899999\d{4} bytes before the end/));
  });

  test("device numbers that Linux does not have are refused, and ignored on what is no device", () => {
    for (const spec of [{ major: 0x1000 }, { minor: 0x100000 }]) {
      const entry = { path: "d", type: "block" as const, ...spec };
      expect(() => only(entry)).toThrow(corrupt(/"d" has a device number/));
    }
    const header = (block: Buffer) => block.write("zzzzzzz", 329);
    expect(only({ path: "f", header })).toMatchObject({ deviceMajor: 0, deviceMinor: 0 });
  });

  test("a checksum over signed bytes is accepted, a wrong one is not", () => {
    const signed = (block: Buffer) => withChecksum(block, true);
    const header = tarMember({ path: Buffer.from([0x66, 0xe9, 0xff]) });
    expect(only(signed(Buffer.from(header))).path).toBe("f\xe9\xff");
    for (let at = 0; at < 512; at += 7) {
      const flipped = Buffer.from(header);
      flipped[at]! ^= 0x10;
      expect(() => only(flipped)).toThrow(corrupt(/checksum/));
    }
  });
});
