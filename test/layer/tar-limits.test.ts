import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { buildTar, gnuLongName, paxMember, tarEnd, tarMember } from "../support/tar-builder.js";
import { beyondLimit, corrupt, only, readTar } from "./tar-reading.js";

describe("the end", () => {
  const member = tarMember({ path: "f", content: "abc" });

  test.each([
    ["two blocks of zeros", Buffer.concat([member, tarEnd]), []],
    ["one block of zeros", Buffer.concat([member, Buffer.alloc(512)]), []],
    ["padding to a record", Buffer.concat([member, Buffer.alloc(10240)]), []],
    ["nothing", member, [/without the blocks of zeros/]],
    ["nothing, not even padding", member.subarray(0, 515), [/without the blocks of zeros/]],
    ["bytes behind it", Buffer.concat([member, tarEnd, member]), [/bytes behind the end/]],
  ])("a tar may end with %s", (_, tar, warnings) => {
    for (const pieceBytes of [1, 512, 600, tar.length]) {
      const reading = readTar(tar, { pieceBytes });
      expect(reading.entries.map((entry) => entry.path)).toEqual(["f"]);
      expect(reading.warnings).toEqual(warnings.map((warning) => expect.stringMatching(warning)));
    }
  });

  test("a tar of zeros only, and no bytes at all, are tars without members", () => {
    expect(readTar(Buffer.alloc(1024))).toEqual({ entries: [], warnings: [] });
    expect(readTar(Buffer.alloc(0), { pieceBytes: 1 }).entries).toEqual([]);
  });

  test("a single block of zeros between members is refused, not the end of what one looks at", () => {
    const tar = Buffer.concat([member, Buffer.alloc(512), member, tarEnd]);
    expect(() => readTar(tar)).toThrow(corrupt(/at byte 1536 .*single block of zeros/));
  });

  test("an extended header without a member is refused", () => {
    for (const header of [paxMember("x", [["path", "a"]]), gnuLongName("L", "a"), gnuLongName("K", "a")]) {
      expect(() => readTar(header)).toThrow(corrupt(/ends behind an extended header/));
      expect(() => readTar(Buffer.concat([header, tarEnd]))).toThrow(
        corrupt(/ends behind an extended header/),
      );
    }
    expect(readTar(buildTar([paxMember("g", [["comment", "a commit"]])])).entries).toEqual([]);
  });
});

describe("limits", () => {
  test("a path of 4096 bytes is read, one more is refused, in every form", () => {
    const path = (bytes: number) => `${"d/".repeat(2047)}${"f".repeat(bytes - 4094)}`;
    for (const format of ["ustar", "gnu"] as const) {
      expect(only({ path: path(4096), format }).path).toBe(path(4096));
      expect(() => only({ path: path(4097), format })).toThrow(beyondLimit(/4097 bytes/));
    }
  });

  test("a name of 255 bytes is read, one of 256 is refused, wherever it stands", () => {
    const names = (bytes: number) => [
      "n".repeat(bytes),
      `a/${"n".repeat(bytes)}/b`,
      `a/${"n".repeat(bytes)}/`,
    ];
    for (const path of names(255)) expect(only({ path, type: "directory" }).path).toBe(path);
    for (const path of names(256)) {
      expect(() => only({ path, type: "directory" })).toThrow(beyondLimit(/256 bytes.*255/));
    }
  });

  test("a symlink to 4095 bytes is read, to 4096 or to nothing is refused", () => {
    for (const format of ["ustar", "gnu"] as const) {
      expect(only({ path: "l", link: "t".repeat(4095), format }).linkTarget).toBe("t".repeat(4095));
      expect(() => only({ path: "l", link: "t".repeat(4096), format })).toThrow(beyondLimit(/4096 bytes/));
    }
    expect(() => only({ path: "l", link: "" })).toThrow(corrupt(/symlink "l" has no target/));
    expect(() => only({ path: "l", type: "hardlink" })).toThrow(corrupt(/hardlink "l" has no target/));
  });

  test("an xattr of 64 KiB is read; a longer value, a longer name and too many names are refused", () => {
    const value = Buffer.alloc(limits.xattrValueBytesMax, 9);
    expect(only({ path: "f", xattrs: { "user.big": value } }).xattrs[0]!.value).toHaveLength(65536);
    const larger = Buffer.concat([value, Buffer.from("x")]);
    expect(() => only({ path: "f", xattrs: { "user.big": larger } })).toThrow(beyondLimit(/user\.big/));
    const name = `user.${"n".repeat(250)}`;
    expect(only({ path: "f", xattrs: { [name]: "1" } }).xattrs[0]!.name).toBe(name);
    expect(() => only({ path: "f", xattrs: { [`${name}n`]: "1" } })).toThrow(beyondLimit(/255 bytes/));
    const many = Object.fromEntries(Array.from({ length: 7000 }, (_, i) => [`user.${i}`, ""]));
    expect(() => only({ path: "f", xattrs: many })).toThrow(beyondLimit(/names .* 65536/));
  });

  test("an extended header that is too large is refused before it is read", () => {
    const header = tarMember({ path: "x", typeflag: "x", size: limits.tarHeaderDataBytesMax + 1 });
    expect(() => readTar(header)).toThrow(beyondLimit(/extended header of 2097153 bytes/));
  });

  test("the number of members has a limit, and the error names the setting", () => {
    const tar = buildTar([{ path: "a" }, { path: "b" }, { path: "c" }]);
    expect(readTar(tar, { entriesMax: 3 }).entries).toHaveLength(3);
    expect(() => readTar(tar, { entriesMax: 2 })).toThrow(
      beyondLimit(/more than 2 members; raise layerEntriesMax \(SKIM_LAYER_ENTRIES_MAX\)/),
    );
  });

  test("global attributes cannot be made to fill the memory by many small members", () => {
    const value = Buffer.alloc(60_000, 1);
    const records = Array.from({ length: 30 }, (_, i) => [`SCHILY.xattr.user.${i}`, value] as const);
    const header = paxMember("g", records);
    const entry = tarMember({ path: "f", pax: [["comment", "x"]] });
    const flood = Buffer.concat([header, ...Array<Buffer>(1000).fill(entry)]);
    expect(() => readTar(flood)).toThrow(beyondLimit(/names and attributes/));
  });

  test("global attributes cost nothing for headers that no member follows", () => {
    // Names of 60 KiB, and headers enough that making a list or a copy of them for each would take minutes.
    const records = Array.from({ length: 10_000 }, (_, i) => [`SCHILY.xattr.${10_000 + i}`, ""] as const);
    const locals = Buffer.concat(Array<Buffer>(15_000).fill(paxMember("x", [["comment", "x"]])));
    const globals = Buffer.concat(Array<Buffer>(15_000).fill(paxMember("g", [["SCHILY.xattr.10000", "g"]])));
    const tar = [
      paxMember("g", records),
      locals,
      globals,
      tarMember({ path: "f", xattrs: { "19999": "own" } }),
    ];
    const { xattrs } = only(...tar);
    expect(xattrs).toHaveLength(10_000);
    expect(xattrs[0]).toEqual({ name: "10000", value: "g" });
    expect(xattrs.at(-1)).toEqual({ name: "19999", value: "own" });
  });

  test("global attributes have limits of their own, also before any member", () => {
    const value = Buffer.alloc(60_000, 1);
    const header = (from: number) =>
      paxMember(
        "g",
        Array.from({ length: 20 }, (_, i) => [`SCHILY.xattr.user.${from + i}`, value] as const),
      );
    expect(only(header(0), header(0), header(0), { path: "f" }).xattrs).toHaveLength(20);
    expect(() => readTar(Buffer.concat([header(0), header(20)]))).toThrow(
      beyondLimit(/global .* 2097152 bytes/),
    );
    const names = (from: number) =>
      Array.from({ length: 4000 }, (_, i) => [`SCHILY.xattr.user.${from + i}`, ""] as const);
    const both = Buffer.concat([paxMember("g", names(10_000)), paxMember("g", names(20_000))]);
    expect(() => readTar(both)).toThrow(beyondLimit(/names .* 65536/));
    // Neither header alone has too many names.
    expect(() => only(paxMember("g", names(10_000)), { path: "f", pax: names(20_000) })).toThrow(
      beyondLimit(/names .* 65536/),
    );
  });

  test("thousands of odd members give a bounded number of warnings", () => {
    const members = Array.from({ length: 500 }, (_, i) => ({ path: `v${i}`, typeflag: "V" }));
    const { warnings } = readTar(buildTar(members));
    expect(warnings).toHaveLength(51);
    expect(warnings.at(-1)).toBe("450 further warnings");
  });

  test("names from a tar are shown in errors without control characters", () => {
    const path = Buffer.from("evil\x1b[2J\n");
    expect(() => only({ path, link: "" })).toThrow(corrupt(/"evil\\x1b\[2J\\x0a" has no target/));
  });
});
