import { writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { OpenRegistries } from "../../src/registry/open-registries.js";
import { makeTempDir } from "../support/temp-dir.js";
import { numberedBytes, openSource, readAll, startFake } from "./registry-trial.js";

const bytes = numberedBytes(10_000);
const greetings = /^\/v2\/$/;
const blobs = /\/blobs\//;

test("a registry that asked for nothing is greeted once, and not by every process", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  const cacheDir = await makeTempDir("open-registries");
  for (let start = 0; start < 3; start++)
    expect((await readAll(openSource(registry, undefined, { cacheDir }), blob)).equals(bytes)).toBe(true);
  expect(registry.requestsTo(greetings)).toHaveLength(1);
  expect(registry.requestsTo(blobs)).toHaveLength(3);
});

test("one that asks for a token now is given one, and greeted again from then on", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  const cacheDir = await makeTempDir("open-registries");
  const open = () => openSource(registry, undefined, { cacheDir });
  await readAll(open(), blob);
  registry.auth = { kind: "bearer" };
  expect((await readAll(open(), blob)).equals(bytes)).toBe(true);
  expect(registry.requestsTo(greetings)).toHaveLength(1);
  expect((await readAll(open(), blob)).equals(bytes)).toBe(true);
  expect(registry.requestsTo(greetings)).toHaveLength(2);
  // And the other way round.
  registry.auth = { kind: "none" };
  await readAll(open(), blob);
  await readAll(open(), blob);
  expect(registry.requestsTo(greetings)).toHaveLength(3);
});

test("one that has always asked for a token is greeted by every process", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  const cacheDir = await makeTempDir("open-registries");
  for (let start = 0; start < 2; start++) await readAll(openSource(registry, undefined, { cacheDir }), blob);
  expect(registry.requestsTo(greetings)).toHaveLength(2);
});

test("what cannot be remembered is asked again", async () => {
  const cacheDir = path.join(await makeTempDir("open-registries"), "file");
  await writeFile(cacheDir, "");
  const known = new OpenRegistries(cacheDir);
  known.note("http://127.0.0.1:1", true);
  expect(known.has("http://127.0.0.1:1")).toBe(false);
});
