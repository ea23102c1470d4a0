import { describe, expect, test } from "vitest";
import {
  buildTar,
  gnuLongName,
  paxMember,
  paxRecord,
  tarMember,
  withChecksum,
} from "../support/tar-builder.js";
import { corrupt, only, readTar } from "./tar-reading.js";

/** The content of a pax header that is not made of proper records. */
const rawPax = (content: string | Buffer) =>
  tarMember({ path: "PaxHeaders/x", typeflag: "x", content: Buffer.from(content) });

describe("pax records", () => {
  test("path, linkpath, size, uid, gid and mtime replace the header's fields", () => {
    const content = Buffer.alloc(700, 7);
    const entry = only(
      paxMember("x", [
        ["path", "real/path"],
        ["linkpath", "ignored for files"],
        ["size", "700"],
        ["uid", "70000"],
        ["gid", "3000000000"],
        ["mtime", "1.5"],
        ["uname", "ignored"],
        ["SCHILY.dev", "1"],
        ["comment", "a=b\nc"],
      ]),
      { path: "short", size: 0, content },
    );
    expect(entry).toMatchObject({
      path: "real/path",
      fileBytes: 700,
      uid: 70000,
      gid: 3_000_000_000,
      mtimeSec: 1,
      mtimeNsec: 500_000_000,
      linkTarget: "",
    });
  });

  test.each([
    ["0", 0, 0],
    ["1700000000.123456789", 1_700_000_000, 123_456_789],
    ["1.9999999999", 1, 999_999_999],
    ["12.", 12, 0],
    ["-1", -1, 0],
    ["-1.5", -2, 500_000_000],
    ["-0.000000001", -1, 999_999_999],
    ["-0", 0, 0],
    ["-0.0000000001", 0, 0],
  ])("mtime %s is second %i and nanosecond %i", (text, sec, nsec) => {
    const entry = only({ path: "f", pax: [["mtime", text]] });
    expect([entry.mtimeSec, entry.mtimeNsec]).toEqual([sec, nsec]);
    expect(Object.is(entry.mtimeSec, -0)).toBe(false);
  });

  test.each(["x", "1.5x", ".5", "-", "-.5", "1.-5", "1e9", "99999999999999999999", " 1"])(
    "mtime %j is refused",
    (text) => {
      expect(() => only({ path: "f", pax: [["mtime", text]] })).toThrow(corrupt(/mtime/));
    },
  );

  test("xattr values are binary, may be empty, and of a repeated name the last counts", () => {
    const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");
    const entry = only({
      path: "f",
      xattrs: {
        "security.capability": capability,
        "user.newline": Buffer.from("a\n9 b=c\0"),
        "user.twice": "first",
        "user.empty": "",
      },
      pax: [
        ["SCHILY.xattr.user.twice", "last"],
        ["LIBARCHIVE.xattr.user.other", "YWJj"],
        ["SCHILY.acl.access", "user::rwx"],
        ["user.naked", "no xattr"],
      ],
    });
    expect(Object.fromEntries(entry.xattrs.map(({ name, value }) => [name, value]))).toEqual({
      "security.capability": capability.toString("latin1"),
      "user.newline": "a\n9 b=c\0",
      "user.twice": "last",
      "user.empty": "",
    });
  });

  test("an empty value takes back an earlier record and the header's own field counts again", () => {
    const entry = only(
      paxMember("x", [
        ["path", "gone"],
        ["path", ""],
        ["uid", "9"],
        ["uid", ""],
        ["mtime", "3.25"],
        ["mtime", ""],
      ]),
      { path: "kept", uid: 4, mtimeSec: 5 },
    );
    expect(entry).toMatchObject({ path: "kept", uid: 4, mtimeSec: 5, mtimeNsec: 0 });
  });

  test("global records apply to all members behind them until they are replaced, local ones to the next only", () => {
    const { entries } = readTar(
      buildTar([
        { path: "before", uid: 1 },
        paxMember("g", [
          ["uid", "100"],
          ["mtime", "7.5"],
          ["SCHILY.xattr.user.g", "global"],
          ["GNU.sparse.major", "1"],
        ]),
        { path: "a", uid: 1 },
        { path: "b", uid: 1, pax: [["uid", "200"]], xattrs: { "user.l": "local", "user.g": "mine" } },
        { path: "c", uid: 1, pax: [["uid", ""]] },
        paxMember("g", [["uid", ""]]),
        { path: "d", uid: 1 },
      ]),
    );
    expect(entries.map(({ path, uid, mtimeNsec }) => [path, uid, mtimeNsec])).toEqual([
      ["before", 1, 0],
      ["a", 100, 500_000_000],
      ["b", 200, 500_000_000],
      ["c", 1, 500_000_000],
      ["d", 1, 500_000_000],
    ]);
    expect(entries.map(({ xattrs }) => xattrs.map(({ name, value }) => `${name}=${value}`))).toEqual([
      [],
      ["user.g=global"],
      ["user.g=mine", "user.l=local"],
      ["user.g=global"],
      ["user.g=global"],
    ]);
  });

  test("a global header between a local one and its member leaves the local one in force", () => {
    const entry = only(paxMember("x", [["path", "local"]]), paxMember("g", [["uid", "3"]]), { path: "f" });
    expect(entry.path).toBe("local");
  });

  test("Solaris' X is an x", () => {
    const header = Buffer.from(paxMember("x", [["path", "name"]]));
    header.write("X", 156);
    withChecksum(header.subarray(0, 512));
    expect(only(header, { path: "f" }).path).toBe("name");
  });

  test.each([
    ["no length", "x=1\n"],
    ["a length of zero", "0 a=b\n"],
    ["a length beyond the header", "99 a=b\n"],
    ["a length that cuts the record", "5 a=bcd\n"],
    ["a huge length", "99999999999999999999 a=b\n"],
    ["no space", "6a=bcd\n"],
    ["no equals sign", "6 abc\n"],
    ["an empty keyword", "6 =bc\n"],
    ["trailing zeros", `6 a=b\n\0\0\0\0`],
    ["a NUL in a path", paxRecord("path", "a\0b").toString()],
    ["a size that is no number", paxRecord("size", "1x").toString()],
    ["a negative size", paxRecord("size", "-1").toString()],
    ["a nameless xattr", paxRecord("SCHILY.xattr.", "1").toString()],
  ])("a pax header with %s is refused", (_, content) => {
    expect(() => only(rawPax(content), { path: "f" })).toThrow(corrupt(/layer 1 of 1: at byte \d+ /));
  });

  test("a header without records is no reason to complain", () => {
    expect(only(rawPax(""), { path: "f" }).path).toBe("f");
  });
});

describe("GNU long names", () => {
  test("L and K name the next member only, and win over pax records", () => {
    const { entries } = readTar(
      buildTar([
        gnuLongName("K", "k".repeat(150)),
        gnuLongName("L", "l".repeat(150)),
        { path: "short", link: "target" },
        { path: "next", link: "target" },
        gnuLongName("L", "gnu"),
        { path: "short", pax: [["path", "pax"]] },
      ]),
    );
    expect(entries.map(({ path, linkTarget }) => [path, linkTarget])).toEqual([
      ["l".repeat(150), "k".repeat(150)],
      ["next", "target"],
      ["gnu", ""],
    ]);
  });

  test.each([0, 1])(
    "a long name of %i NULs and nothing else leaves the header's own name in force",
    (nuls) => {
      const empty = (typeflag: string) =>
        tarMember({ path: "././@LongLink", typeflag, format: "gnu", content: Buffer.alloc(nuls) });
      const entry = only(empty("L"), empty("K"), { path: "l", link: "target", format: "gnu" });
      expect(entry).toMatchObject({ path: "l", linkTarget: "target" });
    },
  );

  test("a long name need not end with a NUL", () => {
    const member = tarMember({ path: "././@LongLink", typeflag: "L", format: "gnu", content: "whole name" });
    expect(only(member, { path: "f" }).path).toBe("whole name");
  });
});
