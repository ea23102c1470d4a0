import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import type { Libraries } from "../../src/program/libraries.js";
import { readLibraryCache } from "../../src/program/library-cache.js";
import { configuredDirectories, matchingPaths } from "../../src/program/library-directories.js";
import { startPrograms } from "../../src/program/start-programs.js";
import { newCache, oldCache } from "./cache-builder.js";
import { type ElfShape, elf, library, program } from "./elf-builder.js";
import { bytes, type MadeFile, madeImage } from "./made-image.js";

const loader = library("ld-linux-x86-64.so.2");
const musl = "/lib/ld-musl-x86_64.so.1";

/** What /app/main loads in an image with a glibc loader and these files. */
async function librariesOf(files: Record<string, MadeFile>, env: string[] = []): Promise<Libraries> {
  const { image } = madeImage({ "/lib64/ld-linux-x86-64.so.2": loader, ...files });
  const command = { args: [bytes("/app/main")], env: env.map(bytes), directory: bytes("/") };
  const [started] = await startPrograms(image(), command);
  if (started?.kind !== "program" || !started.libraries) throw new Error("it has libraries");
  return started.libraries;
}

const found = ({ loaded }: Libraries) => loaded.map(({ name, file, place }) => [name, file.path, place]);

describe("glibc's loader", () => {
  it("loads the closure breadth first, each library once", async () => {
    const libraries = await librariesOf({
      "/app/main": program(["liba.so", "libb.so"]),
      "/lib/liba.so": library("liba.so", { needed: ["libc.so.6", "libd.so"] }),
      "/lib/libb.so": library("libb.so", { needed: ["libd.so", "liba.so"] }),
      "/lib/libc.so.6": library("libc.so.6", { needed: ["ld-linux-x86-64.so.2"] }),
      "/lib/libd.so": library("libd.so", { needed: ["libb.so"] }),
    });
    expect(libraries.loaded.map(({ name }) => name)).toEqual(["liba.so", "libb.so", "libc.so.6", "libd.so"]);
    expect(libraries.missing).toEqual([]);
    expect(libraries.loaded[3]).toMatchObject({ neededBy: "/lib/liba.so" });
  });

  const everywhere = Object.fromEntries(
    ["/rpath", "/environment", "/runpath", "/cached", "/usr/lib"].map((directory) => [
      `${directory}/libx.so`,
      library("libx.so"),
    ]),
  );
  const cache = { "/etc/ld.so.cache": { plain: newCache([["libx.so", "/cached/libx.so"]]) } };
  const without = (...directories: string[]) =>
    Object.fromEntries(
      Object.entries(everywhere).filter(([path]) => !directories.some((one) => path.startsWith(one))),
    );
  const environment = ["LD_LIBRARY_PATH=/environment"];
  const rpath = { rpath: "/rpath" };
  const runpath = { runpath: "/runpath" };
  it.each<[string, Record<string, MadeFile>, ElfShape, string]>([
    ["DT_RPATH", everywhere, rpath, "/rpath"],
    [
      "LD_LIBRARY_PATH, where DT_RUNPATH makes DT_RPATH nothing",
      everywhere,
      { ...rpath, ...runpath },
      "/environment",
    ],
    ["DT_RUNPATH", without("/environment"), { ...rpath, ...runpath }, "/runpath"],
    ["the cache", without("/environment"), {}, "/cached"],
    ["the default directories", without("/environment", "/cached"), {}, "/usr/lib"],
  ])("looks first in %s", async (_, files, shape, directory) => {
    const libraries = await librariesOf(
      { ...files, ...cache, "/app/main": program(["libx.so"], shape) },
      environment,
    );
    expect(libraries.loaded.map(({ file }) => file.path)).toEqual([`${directory}/libx.so`]);
  });

  it("takes DT_RPATH of those who load a library too, and DT_RUNPATH only for an object's own", async () => {
    const files = {
      "/app/lib/liba.so": library("liba.so", { needed: ["libb.so"] }),
      "/app/lib/libb.so": library("libb.so"),
    };
    const inherited = await librariesOf({
      ...files,
      "/app/main": program(["liba.so"], { rpath: "$ORIGIN/lib" }),
    });
    expect(found(inherited)).toEqual([
      ["liba.so", "/app/lib/liba.so", "rpath"],
      ["libb.so", "/app/lib/libb.so", "rpath"],
    ]);
    const own = await librariesOf({
      ...files,
      "/app/main": program(["liba.so"], { runpath: "\x24{ORIGIN}/lib" }),
    });
    expect(own.loaded.map(({ name }) => name)).toEqual(["liba.so"]);
    expect(own.missing).toMatchObject([{ name: "libb.so", neededBy: "/app/lib/liba.so" }]);
  });

  it("puts $ORIGIN where the object is, symlinks followed, $LIB where the loader is, $PLATFORM for the machine", async () => {
    const libraries = await librariesOf({
      "/app/main": { link: "../real/bin/main" },
      "/real/bin/main": program(["liba.so"], { runpath: "$ORIGIN/../$LIB/$PLATFORM" }),
      "/real/lib64/x86_64/liba.so": library("liba.so"),
    });
    expect(found(libraries)).toEqual([["liba.so", "/real/lib64/x86_64/liba.so", "runpath"]]);
  });

  it("takes $ORIGIN of LD_LIBRARY_PATH for the program's, an empty part for the working directory, an empty variable for none", async () => {
    const files = {
      "/app/main": program(["liba.so"], { rpath: "" }),
      "/app/near/liba.so": library("liba.so", { needed: ["libb.so"] }),
      "/app/near/libb.so": library("libb.so"),
      "/libb.so": library("libb.so"),
    };
    const near = await librariesOf(files, ["LD_LIBRARY_PATH=$ORIGIN/near"]);
    expect(near.loaded.map(({ file }) => file.path)).toEqual(["/app/near/liba.so", "/app/near/libb.so"]);
    const here = await librariesOf(files, ["LD_LIBRARY_PATH=:/app/near"]);
    expect(here.loaded.map(({ file }) => file.path)).toEqual(["/app/near/liba.so", "/libb.so"]);
    const none = await librariesOf(files, ["LD_LIBRARY_PATH="]);
    expect(none.missing[0]?.searched).not.toContain("/liba.so");
    expect(none.missing[0]?.searched).not.toContain("./liba.so");
  });

  it("ends with search paths of any number and length", async () => {
    const long = Array.from({ length: 1500 }, (_, i) => `d${i}`).join(":");
    const chain = Array.from({ length: 60 }, (_, i) => `lib${i}.so`);
    const files = Object.fromEntries(
      chain.map((name, i) => [
        `/lib/${name}`,
        library(name, { rpath: long.slice(0, 4000), needed: [`lib${i + 1}.so`, `no${i}.so`, `none${i}.so`] }),
      ]),
    );
    const libraries = await librariesOf({
      ...files,
      "/app/main": program(["lib0.so"], { rpath: long.slice(0, 4000) }),
    });
    expect(libraries.missing.length).toBeGreaterThan(0);
    expect(libraries.missing.every(({ searched }) => searched.length <= 256)).toBe(true);
  });

  it("passes over objects of another machine or class, and files that are none, and says so where nothing fits", async () => {
    const libraries = await librariesOf({
      "/app/main": program(["liba.so", "libb.so"], { runpath: "/one:/two" }),
      "/one/liba.so": elf({ soname: "liba.so", machine: 183 }),
      "/two/liba.so": library("liba.so"),
      "/one/libb.so": elf({ bits: 32, machine: 3 }),
      "/two/libb.so": { plain: "/* GNU ld script */" },
    });
    expect(found(libraries)).toEqual([["liba.so", "/two/liba.so", "runpath"]]);
    expect(libraries.missing).toMatchObject([
      {
        name: "libb.so",
        searched: [
          "/lib64/libb.so",
          "/lib64/libb.so",
          "/usr/lib64/libb.so",
          "/lib/libb.so",
          "/usr/lib/libb.so",
        ],
        unfit: [
          { path: "/one/libb.so", found: expect.stringMatching(/32 bits, the program 64/) },
          { path: "/two/libb.so", found: expect.stringMatching(/does not begin as/) },
        ],
      },
    ]);
  });

  it("loads what LD_PRELOAD and /etc/ld.so.preload name first", async () => {
    const libraries = await librariesOf(
      {
        "/app/main": program(["libc.so.6"]),
        "/opt/one.so": library("one.so"),
        "/opt/two.so": library("two.so"),
        "/lib/libc.so.6": library("libc.so.6"),
        "/etc/ld.so.preload": { plain: "/opt/two.so # a comment\n" },
      },
      ["LD_PRELOAD=/opt/one.so"],
    );
    expect(found(libraries)).toEqual([
      ["/opt/one.so", "/opt/one.so", "preload"],
      ["/opt/two.so", "/opt/two.so", "preload"],
      ["libc.so.6", "/lib/libc.so.6", "default"],
    ]);
    expect(libraries.configuration.map(({ path }) => path)).toEqual(["/etc/ld.so.preload"]);
  });

  it("does not look in directories of ld.so.conf, which is told where there is no cache", async () => {
    const files = {
      "/app/main": program(["liba.so"]),
      "/opt/lib/liba.so": library("liba.so"),
      "/etc/ld.so.conf": { plain: "include /etc/ld.so.conf.d/*.conf\n" },
      "/etc/ld.so.conf.d/opt.conf": { plain: "# ours\n/opt/lib\n" },
    };
    expect(found(await librariesOf(files))).toEqual([["liba.so", "/opt/lib/liba.so", "configuration"]]);
    const cached = await librariesOf({ ...files, "/etc/ld.so.cache": { plain: newCache([]) } });
    expect(cached.missing.map(({ name }) => name)).toEqual(["liba.so"]);
  });
});

describe("musl's loader", () => {
  const muslLoader = { [musl]: library("libc.musl-x86_64.so.1") };
  const main = (needed: string[], shape: ElfShape = {}) => program(needed, { interpreter: musl, ...shape });

  it("has libc itself, looks in its own directories, and takes DT_RUNPATH of those who load a library too", async () => {
    const libraries = await librariesOf({
      ...muslLoader,
      "/lib/libc.musl-x86_64.so.1": { link: "ld-musl-x86_64.so.1" },
      "/app/main": main(["libc.musl-x86_64.so.1", "libpthread.so.0", "libz.so.1", "liba.so"], {
        runpath: "/app/lib",
      }),
      "/usr/lib/libz.so.1": library("libz.so.1"),
      "/app/lib/liba.so": library("liba.so", { needed: ["libb.so"] }),
      "/app/lib/libb.so": library("libb.so"),
    });
    expect(found(libraries)).toEqual([
      ["libz.so.1", "/usr/lib/libz.so.1", "default"],
      ["liba.so", "/app/lib/liba.so", "rpath"],
      ["libb.so", "/app/lib/libb.so", "rpath"],
    ]);
    expect(libraries.missing).toEqual([]);
  });

  it("looks where its path file says, in place of the default", async () => {
    const libraries = await librariesOf({
      ...muslLoader,
      "/etc/ld-musl-x86_64.path": { plain: "/one\n/two:/three\n" },
      "/app/main": main(["liba.so", "libb.so"]),
      "/three/liba.so": library("liba.so"),
      "/usr/lib/libb.so": library("libb.so"),
    });
    expect(found(libraries)).toEqual([["liba.so", "/three/liba.so", "default"]]);
    expect(libraries.missing).toMatchObject([
      { name: "libb.so", searched: ["/one/libb.so", "/two/libb.so", "/three/libb.so"] },
    ]);
    expect(libraries.configuration.map(({ path }) => path)).toEqual(["/etc/ld-musl-x86_64.path"]);
  });
});

describe("ld.so.cache", () => {
  const entries: [string, string][] = [
    ["libz.so.1", "/usr/lib/libz.so.1"],
    ["libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"],
    ["libc.so.6", "/lib32/libc.so.6"],
  ];
  const expected = new Map([
    ["libz.so.1", ["/usr/lib/libz.so.1"]],
    ["libc.so.6", ["/lib/x86_64-linux-gnu/libc.so.6", "/lib32/libc.so.6"]],
  ]);

  it.each([
    ["new", newCache(entries)],
    ["new, big endian", newCache(entries, { bigEndian: true })],
    ["old", oldCache(entries)],
    ["new behind old", Buffer.concat([oldCache(entries.slice(0, 1), { strings: false }), newCache(entries)])],
  ])("of the %s layout is read", (_, cache) => {
    expect(readLibraryCache(cache, true)).toEqual(expected);
  });

  it("leaves out what is for certain processors", () => {
    const cache = newCache([...entries, ["libz.so.1", "/usr/lib/glibc-hwcaps/x86-64-v3/libz.so.1"]], {
      hwcapFrom: 3,
    });
    expect(readLibraryCache(cache, true)).toEqual(expected);
  });

  it("of this machine is what ldconfig prints", async () => {
    const { stdout } = await promisify(execFile)("/sbin/ldconfig", ["-p"]);
    const printed = [...stdout.matchAll(/^\t(\S+) \(([^)]*)\) => (\S+)$/gm)]
      .filter(([, , flags]) => !flags!.includes("hwcap"))
      .map(([, name, , path]) => `${name} ${path}`);
    const cache = readLibraryCache(await readFile("/etc/ld.so.cache"), true);
    const listed = [...cache!].flatMap(([name, paths]) => paths.map((path) => `${name} ${path}`));
    expect(listed.sort()).toEqual(printed.sort());
    expect(listed.length).toBeGreaterThan(10);
  });

  it("that is damaged is none, or has fewer entries: never an exception", () => {
    for (const cache of [newCache(entries), oldCache(entries)]) {
      for (let at = 0; at < cache.length; at++) {
        readLibraryCache(cache.subarray(0, at), true);
        for (const value of [0, 0x7f, 0xff]) {
          const changed = Buffer.from(cache);
          changed[at] = value;
          readLibraryCache(changed, true);
        }
      }
    }
    expect(readLibraryCache(Buffer.from("text"), true)).toBeUndefined();
  });
});

describe("ld.so.conf", () => {
  it("includes files by pattern, relative to the one that names them, and ends where files include each other", async () => {
    const { image } = madeImage({
      "/etc/ld.so.conf": { plain: "/first\ninclude ld.so.conf.d/*.conf\n\n# no\nhwcap 0 nosegneg\n" },
      "/etc/ld.so.conf.d/b.conf": { plain: "/b \t\n/with=libc6\n" },
      "/etc/ld.so.conf.d/a.conf": { plain: "/a\ninclude /etc/ld.so.conf\n" },
      "/etc/ld.so.conf.d/.hidden.conf": { plain: "/hidden\n" },
      "/etc/ld.so.conf.d/c.text": { plain: "/text\n" },
    });
    expect(await configuredDirectories(image())).toEqual(["/first", "/a", "/b", "/with"]);
  });

  it("has patterns as glob(3) has them", () => {
    const { image } = madeImage(
      Object.fromEntries(["/d/a1", "/d/a2", "/d/b-1", "/d/]x", "/e/a1", "/d/.a1"].map((path) => [path, "x"])),
    );
    const matches = (pattern: string) => matchingPaths(image(), bytes(pattern));
    expect(matches("/d/a?")).toEqual(["/d/a1", "/d/a2"]);
    expect(matches("/*/a1")).toEqual(["/d/a1", "/e/a1"]);
    expect(matches("/d/[!a]*")).toEqual(["/d/]x", "/d/b-1"]);
    expect(matches("/d/[]b]*")).toEqual(["/d/]x", "/d/b-1"]);
    expect(matches("/d/[a-b]*[0-1]")).toEqual(["/d/a1", "/d/b-1"]);
    expect(matches(`/d/${"*a".repeat(200)}`)).toEqual([]);
  });
});
