import { describe, expect, it } from "vitest";
import { accountsBytesMax } from "../../src/archive/accounts.js";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import {
  archivePieces,
  encodeArchive,
  withAccounts,
  withStartSpans,
} from "../../src/archive/archive-writer.js";
import { sampleContents } from "./sample-archive.js";

const encoded = () => encodeArchive(sampleContents());
const bytesOf = (archive: ReturnType<typeof encoded>) => Buffer.concat(archivePieces(archive));
/** An archive whose section is these bytes. */
const withBytes = (bytes: string) => bytesOf({ ...encoded(), accounts: [Buffer.from(bytes, "latin1")] });

describe("the accounts of an archive", () => {
  it.each([
    ["both files", { passwd: "root:x:0:0::/root:/bin/sh\n", group: "root:x:0:\n" }],
    ["one of them", { group: "root:x:0:\n" }],
    ["an empty one", { passwd: "" }],
    ["none", {}],
    ["what is not ASCII", { passwd: "gr\u00fc\u00df:x:1:1:\ufffd:/:\n" }],
  ])("come back as they were written: %s", (_, accounts) => {
    const archive = decodeArchive(bytesOf(withAccounts(encoded(), accounts)), "written");
    expect(archive.accounts).toEqual(accounts);
  });

  it("may be missing, which is not the same as none", () => {
    expect(decodeArchive(bytesOf(encoded()), "without").accounts).toBeUndefined();
  });

  it("are left out where they are too long", () => {
    const archive = withAccounts(withStartSpans(encoded(), [0]), { passwd: "x".repeat(accountsBytesMax) });
    expect(decodeArchive(bytesOf(archive), "long").accounts).toBeUndefined();
  });

  it.each([
    ["no JSON", "{"],
    ["no object", "[]"],
    ["a number", '{"passwd":1}'],
    ["another field", '{"passwd":"","shadow":""}'],
    ["white space", '{ "passwd":""}'],
    ["another order", '{"group":"","passwd":""}'],
    ["a field twice", '{"passwd":"a","passwd":"b"}'],
    ["bytes that are no UTF-8", '{"passwd":"\xff"}'],
    ["too many bytes", `{"passwd":"${"x".repeat(accountsBytesMax)}"}`],
  ])("are refused where they are %s", (_, bytes) => {
    expect(() => decodeArchive(withBytes(bytes), "damaged")).toThrow(
      expect.objectContaining({ code: "ARCHIVE_DAMAGED", message: expect.stringContaining("accounts") }),
    );
  });
});
