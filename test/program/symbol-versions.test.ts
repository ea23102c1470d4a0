import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { isElf } from "../../src/program/elf.js";
import { findLibraries } from "../../src/program/libraries.js";
import type { ProgramImage } from "../../src/program/program-image.js";
import { definedVersions, neededVersions } from "../../src/program/symbol-versions.js";
import { makeTempDir } from "../support/temp-dir.js";
import { elf, library } from "./elf-builder.js";
import { bytes, madeImage } from "./made-image.js";

describe("versions of symbols", () => {
  let app: Buffer;
  let versioned: Buffer;

  beforeAll(async () => {
    const dir = await makeTempDir("versions");
    const at = (name: string) => path.join(dir, name);
    writeFileSync(at("map"), "V_1.0 { global: one; };\nV_1.1 { global: two; } V_1.0;\n");
    const build = (source: string, output: string, ...flags: string[]) =>
      execFileSync("gcc", ["-o", output, "-x", "c", "-", "-x", "none", ...flags], { input: source });
    const shared = ["-shared", "-fPIC", "-Wl,-soname,libv.so.1", `-Wl,--version-script=${at("map")}`];
    build("int one(void) { return 0; } int two(void) { return 0; }", at("libv.so.1"), ...shared);
    build("int two(void); int main(void) { return two(); }", at("app"), at("libv.so.1"));
    app = readFileSync(at("app"));
    versioned = readFileSync(at("libv.so.1"));
  });

  async function read(image: ProgramImage, at: string) {
    const { file } = image.find(bytes(at));
    const object = await image.elf(file!);
    if (!isElf(object)) throw new Error(object.found);
    return { file: file!, object };
  }

  it("are read as readelf(1) shows them: what a program wants of each library, and what a library has", async () => {
    const image = madeImage({ "/app": app, "/lib/libv.so.1": versioned }).image();
    const program = await read(image, "/app");
    const needed = await neededVersions(image, program.file, program.object);
    expect(needed).toContainEqual({ library: "libv.so.1", version: "V_1.1" });
    expect(needed.some((one) => one.library === "libc.so.6" && /^GLIBC_2\./.test(one.version))).toBe(true);
    const found = await read(image, "/lib/libv.so.1");
    expect([...(await definedVersions(image, found.file, found.object))!]).toEqual([
      "libv.so.1",
      "V_1.0",
      "V_1.1",
    ]);
  });

  it("are none where an object has none", async () => {
    const image = madeImage({ "/app": elf({}) }).image();
    const { file, object } = await read(image, "/app");
    expect(await neededVersions(image, file, object)).toEqual([]);
    expect(await definedVersions(image, file, object)).toBeUndefined();
  });

  it("end with tables that lead in circles or out of the file", async () => {
    const program = await read(madeImage({ "/app": app }).image(), "/app");
    const { start } = program.object.dynamic!.versionsNeeded!;
    for (let at = start; at < start + 64; at++) {
      for (const value of [0, 0x7f, 0xff]) {
        const damaged = Buffer.from(app);
        damaged[at] = value;
        const image = madeImage({ "/app": damaged }).image();
        const { file, object } = await read(image, "/app");
        expect((await neededVersions(image, file, object)).length).toBeLessThanOrEqual(4096);
      }
    }
  });
});

describe("directories that a glibc loader has built in", () => {
  const search = async (loader: Buffer) => {
    const image = madeImage({
      "/app": elf({ interpreter: "/lib64/ld-linux-x86-64.so.2", needed: ["libno.so"] }),
      "/lib64/ld-linux-x86-64.so.2": loader,
    }).image();
    const [file, loaderFile] = ["/app", "/lib64/ld-linux-x86-64.so.2"].map(
      (at) => image.find(bytes(at)).file!,
    );
    const object = await image.elf(file!);
    if (!isElf(object)) throw new Error(object.found);
    const command = { args: [], env: [], directory: bytes("/") };
    const interpreter = object.interpreter!;
    const { missing } = await findLibraries(image, {
      file: file!,
      object,
      loader: loaderFile!,
      interpreter,
      command,
    });
    return missing[0]!.searched;
  };

  it("are searched, and no others", async () => {
    const host = readFileSync("/lib64/ld-linux-x86-64.so.2");
    expect(await search(host)).toEqual([
      "/lib/x86_64-linux-gnu/libno.so",
      "/usr/lib/x86_64-linux-gnu/libno.so",
      "/lib/libno.so",
      "/usr/lib/libno.so",
    ]);
    const store = Buffer.concat([
      library("ld.so"),
      Buffer.from("\0/nix/store/abc-glibc-2.37/lib/\0other/\0"),
    ]);
    expect(await search(store)).toEqual(["/nix/store/abc-glibc-2.37/lib/libno.so"]);
  });

  it("are guessed where it does not tell", async () => {
    expect(await search(library("ld.so"))).toContain("/usr/lib64/libno.so");
    const slashes = Buffer.concat([library("ld.so"), Buffer.alloc(900_000, "/lib/")]);
    expect(await search(slashes)).toContain("/usr/lib64/libno.so");
  });
});
