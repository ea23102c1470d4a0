import { expect, test } from "vitest";
import { decodeArchive } from "../../src/archive/archive-reader.js";
import { filesOfSpans } from "../../src/archive/span-files.js";
import { encoded, sampleContents } from "./sample-archive.js";

const archive = decodeArchive(encoded(sampleContents()), "sample");

test("a span is told by the file with most of its bytes, and how many others have some", () => {
  const files = filesOfSpans(archive, [0, 1, 2, 3, 4]);
  expect(Object.fromEntries(files)).toEqual({
    // Of 120 bytes; one of its two names.
    0: { path: "/bin/su", others: 1 },
    2: { path: "/new\\x0aline", others: 0 },
    3: { path: "/sparse", others: 0 },
    4: { path: "/sparse", others: 0 },
  });
});

test("only what is asked for is told", () => {
  expect([...filesOfSpans(archive, [4]).keys()]).toEqual([4]);
  expect(filesOfSpans(archive, []).size).toBe(0);
});
