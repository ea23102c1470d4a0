import { describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import { verifyArchive } from "../../src/archive/verify-archive.js";
import { isSkimError } from "../../src/base/errors.js";
import { placeOf } from "./archive-bytes.js";
import { expectDamaged, good, refusalOfBytes } from "./broken-archive.js";
import { walkArchive } from "./walk-archive.js";

describe("accidental damage", () => {
  it("the sample is good", () => {
    expect(walkArchive(decodeArchive(good, "good"))).toHaveLength(15);
  });

  it("an archive cut off at any byte is refused", () => {
    for (let length = 0; length < good.length; length++) {
      const error = refusalOfBytes(good.subarray(0, length));
      if (!isSkimError(error, "ARCHIVE_DAMAGED"))
        throw new Error(`${length} bytes are taken`, { cause: error });
    }
  });

  it("an archive with anything behind its end is refused", () => {
    for (const length of [1, 64, 4096]) {
      expectDamaged(Buffer.concat([good, Buffer.alloc(length)]), /header: the file has/);
    }
  });

  it("any byte that is changed is found: on opening, or in windows by verify", async () => {
    const windows = placeOf(good, "windows");
    for (let at = 0; at < good.length; at++) {
      for (const mask of [0x01, 0x80, 0xff]) {
        const flipped = Buffer.from(good);
        flipped[at]! ^= mask;
        const isWindow = at >= windows.offset && at < windows.offset + windows.length;
        const error = isWindow
          ? await verifyArchive(decodeArchive(flipped, "flipped"), { label: "flipped" }).catch(
              (e: unknown) => e,
            )
          : refusalOfBytes(flipped);
        const isVersion = at >= 8 && at < 12;
        if (!isSkimError(error, isVersion ? "ARCHIVE_VERSION" : "ARCHIVE_DAMAGED")) {
          throw new Error(`byte ${at} changed by ${mask} is not found`, { cause: error });
        }
      }
    }
  });

  it("is told from a file that is no archive, and from an empty one", () => {
    expectDamaged(Buffer.alloc(0), /0 bytes that do not begin as a skim archive does/);
    expectDamaged(Buffer.from("#!/bin/sh\n".repeat(100)), /do not begin as a skim archive does/);
  });

  it("an archive need not begin at an aligned address of memory", () => {
    const shifted = Buffer.alloc(good.length + 3);
    good.copy(shifted, 3);
    expect(walkArchive(decodeArchive(shifted.subarray(3), "shifted"))).toHaveLength(15);
  });
});
