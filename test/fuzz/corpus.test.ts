import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { corpusDir } from "./corpus.js";
import { sampleArchives } from "./sample-archives.js";

it.each(Object.entries(sampleArchives))(
  "the corpus has the archive %s as it is written today",
  (name, make) => {
    const file = path.join(corpusDir, "archives", `${name}.skim`);
    if (process.env.SKIM_FUZZ_CORPUS === "write") writeFileSync(file, make());
    const advice =
      "after a change of the format: SKIM_FUZZ_CORPUS=write npx vitest run test/fuzz/corpus.test.ts";
    expect(existsSync(file) && readFileSync(file).equals(make()), advice).toBe(true);
  },
);
