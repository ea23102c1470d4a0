import { writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, it } from "vitest";
import { loadAddon, loadNative } from "../../src/native/load.js";
import { makeTempDir } from "../support/temp-dir.js";

it("the addon is loaded once", () => {
  expect(loadNative()).toBe(loadNative());
});

it("an addon that is not built is named with the command that builds it", () => {
  expect(() => loadAddon("/nowhere/skim.node")).toThrow(
    expect.objectContaining({
      code: "ENVIRONMENT",
      message: expect.stringMatching(/\/nowhere\/skim\.node is not there.*npm run build:native/),
    }),
  );
});

it("an addon that cannot be loaded is named with what the loader found", async () => {
  const file = path.join(await makeTempDir("load"), "skim.node");
  await writeFile(file, "not a library");
  expect(() => loadAddon(file)).toThrow(
    expect.objectContaining({
      code: "ENVIRONMENT",
      message: expect.stringMatching(/cannot be loaded: .*npm run build:native/),
    }),
  );
});
