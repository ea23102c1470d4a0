import { crc32, deflateRawSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import { verifyArchive } from "../../src/archive/verify-archive.js";
import { placeOf, reseal, resealHeader, tableEntryAt, withSections } from "./archive-bytes.js";
import { all, good, span } from "./broken-archive.js";

describe("verifyArchive", () => {
  const window = placeOf(good, "windows");
  const withWindow = (stored: Uint8Array, windowLength = 100) => {
    const changed = withSections(good, { windows: stored });
    all(span(2, 40, 4, stored.length), span(2, 44, 4, windowLength))(changed);
    return reseal(changed);
  };
  const verify = (bytes: Buffer) => verifyArchive(decodeArchive(bytes, "test.skim"), { label: "test.skim" });

  it("counts the windows of a good archive", async () => {
    expect(await verify(good)).toEqual({ windows: 1, windowBytes: window.length });
  });

  it.each<[string, Uint8Array, RegExp]>([
    [
      "is no deflate stream",
      Buffer.alloc(20, 0xff),
      /windows record 0: the window of span 2 does not inflate/,
    ],
    ["ends early", deflateRawSync(Buffer.alloc(100, 1)).subarray(0, -1), /does not inflate to 100 bytes/],
    ["is too short", deflateRawSync(Buffer.alloc(99, 1)), /does not inflate to 100 bytes/],
    ["is too long", deflateRawSync(Buffer.alloc(101, 1)), /does not inflate to 100 bytes/],
    ["is a bomb", deflateRawSync(Buffer.alloc(10_000_000)), /does not inflate to 100 bytes/],
    [
      "has bytes behind its end",
      Buffer.concat([deflateRawSync(Buffer.alloc(100, 1)), Buffer.from("x")]),
      /ends after \d+ of \d+ bytes/,
    ],
  ])("refuses a window that %s", async (_what, stored, message) => {
    await expect(verify(withWindow(stored))).rejects.toMatchObject({
      code: "ARCHIVE_DAMAGED",
      message: expect.stringMatching(message),
    });
  });

  it("refuses windows whose CRC is not the table's, though each of them inflates", async () => {
    const archive = Buffer.from(good);
    archive.writeUInt32LE(crc32(Buffer.from("other")), tableEntryAt("windows") + 28);
    await expect(verify(resealHeader(archive))).rejects.toMatchObject({
      code: "ARCHIVE_DAMAGED",
      message: expect.stringMatching(/windows: the section's CRC is wrong/),
    });
  });

  it("stops when it is told to", async () => {
    const reason = new Error("enough");
    const opened = decodeArchive(good, "good");
    await expect(verifyArchive(opened, { label: "good", signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    );
  });
});
