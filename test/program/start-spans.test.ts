import { setImmediate } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { FileContent } from "../../src/filesystem/image-filesystem.js";
import { isElf, readElf } from "../../src/program/elf.js";
import { ReadAllowance } from "../../src/program/read-allowance.js";
import { joinedRanges, libraryRanges, programRanges } from "../../src/program/start-ranges.js";
import { startSpans } from "../../src/program/start-spans.js";
import { elf, library, program } from "./elf-builder.js";
import { type MadeFile, madeImage } from "./made-image.js";

const MiB = 1024 * 1024;
const filler = (length: number) => ({ plain: Buffer.alloc(length, 1) });

/** Paths of the start set's files, and the spans, of an image whose every file begins a span. */
async function setOf(files: Record<string, MadeFile>, args: readonly string[], workingDir = "") {
  const made = madeImage({
    "/lib64/ld-linux-x86-64.so.2": library("ld-linux-x86-64.so.2"),
    "/usr/lib/libc.so.6": library("libc.so.6"),
    ...files,
  });
  const { archive, content } = made;
  const command = { args, env: ["PATH=/usr/bin"], workingDir };
  const set = await startSpans({ archive, content, command, reproducible: true });
  return { ...made, set, paths: set.files.map(({ file }) => file.path) };
}

describe("a start set", () => {
  it("has accounts, program, loader, its configuration and libraries in the order of need, and no other file", async () => {
    const { paths, set, archive } = await setOf(
      {
        "/before": filler(10_000),
        "/usr/bin/tool": program(["liba.so", "libc.so.6"]),
        "/usr/lib/liba.so": library("liba.so", { padding: 20_000 }),
        "/etc/passwd": filler(5000),
        "/etc/ld.so.cache": filler(100),
        "/behind": filler(10_000),
      },
      ["tool"],
    );
    expect(paths).toEqual([
      "/etc/passwd",
      "/usr/bin/tool",
      "/lib64/ld-linux-x86-64.so.2",
      "/etc/ld.so.cache",
      "/usr/lib/liba.so",
      "/usr/lib/libc.so.6",
    ]);
    expect(new Set(set.spans).size).toBe(set.spans.length);
    // Spans of the two files that nobody reads are in it only where they hold a neighbour.
    const wholly = set.files.flatMap(({ file, ranges }) =>
      ranges.map(({ start, end }) => ({ ino: file.ino, start, end })),
    );
    const needed = new Set(
      wholly.flatMap(({ ino, start, end }) =>
        archive.extents(ino).flatMap(({ layer, layerOffset }) => {
          const first = archive.spanIndexAt(layer, layerOffset + start);
          return Array.from(
            { length: archive.spanIndexAt(layer, layerOffset + end - 1) - first + 1 },
            (_, i) => first + i,
          );
        }),
      ),
    );
    expect([...set.spans].sort()).toEqual([...needed].sort());
    expect(set.spans.length).toBeLessThan(archive.spanCount);
  });

  it("is the same every time", async () => {
    const files = { "/usr/bin/tool": program(["libc.so.6", "libno.so"]) };
    const [one, other] = [await setOf(files, ["tool"]), await setOf(files, ["tool"])];
    expect(one.set.spans).toEqual(other.set.spans);
  });

  it("is found with reads side by side for somebody who waits, and is the same one", async () => {
    const names = Array.from({ length: 12 }, (_, i) => `lib${i}.so`);
    const libraries = names.map((name) => [`/usr/lib/${name}`, library(name, { padding: 5000 })] as const);
    const { archive, content } = madeImage({
      "/usr/bin/tool": program(names),
      "/lib64/ld-linux-x86-64.so.2": library("ld-linux-x86-64.so.2"),
      ...Object.fromEntries(libraries),
    });
    const found = async (reproducible: boolean) => {
      let [now, most] = [0, 0];
      const counting: FileContent = {
        async read(request) {
          most = Math.max(most, ++now);
          await setImmediate();
          now--;
          return await content.read(request);
        },
      };
      const command = { args: ["/usr/bin/tool"], env: [], workingDir: "" };
      const { spans } = await startSpans({ archive, content: counting, command, reproducible });
      return { spans, most };
    };
    const [steady, quick] = [await found(true), await found(false)];
    expect(steady.most).toBe(1);
    expect(quick.most).toBeGreaterThan(10);
    expect(quick.spans).toEqual(steady.spans);
  });

  it("of a command that the image does not have, and of none, is what every container reads", async () => {
    const files = { "/etc/passwd": filler(10), "/etc/group": filler(10) };
    expect((await setOf(files, ["no"])).paths).toEqual(["/etc/passwd", "/etc/group"]);
    expect((await setOf(files, [])).set.spans).toEqual([]);
  });

  it("fails where bytes cannot be had, instead of being smaller", async () => {
    const { archive } = madeImage({ "/usr/bin/tool": program() });
    const failure = new Error("the registry is gone");
    const content = { read: () => Promise.reject(failure) };
    const command = { args: ["/usr/bin/tool"], env: [], workingDir: "" };
    await expect(startSpans({ archive, content, command, reproducible: true })).rejects.toBe(failure);
  });

  it("has of Python the modules that are not frozen in its version, compiled where they are", async () => {
    const python = (minor: number) => ({
      [`/usr/bin/python3.${minor}`]: program(["libc.so.6"]),
      "/usr/bin/python3": { link: `python3.${minor}` },
      [`/usr/lib/python3.${minor}/os.py`]: filler(10),
      [`/usr/lib/python3.${minor}/json.py`]: filler(10),
      [`/usr/lib/python3.${minor}/encodings/__init__.py`]: filler(10),
      [`/usr/lib/python3.${minor}/encodings/__pycache__/__init__.cpython-3${minor}.pyc`]: filler(10),
      [`/usr/lib/python3.${minor}/encodings/utf_8.py`]: filler(10),
      [`/usr/lib/python3.${minor}/site-packages/some.pth`]: { plain: "import hook; hook.run()\n" },
      [`/usr/lib/python3.${minor}/site-packages/hook.py`]: filler(10),
      "/app/main.py": filler(10),
    });
    const read = (paths: readonly string[]) => paths.filter((path) => /python3|\.py$/.test(path));
    const eleven = await setOf(python(11), ["python3", "-u", "main.py"], "/app");
    expect(read(eleven.paths)).toEqual([
      "/usr/bin/python3.11",
      "/usr/lib/python3.11/encodings/__pycache__/__init__.cpython-311.pyc",
      "/usr/lib/python3.11/encodings/utf_8.py",
      "/usr/lib/python3.11/site-packages/some.pth",
      "/usr/lib/python3.11/site-packages/hook.py",
      "/app/main.py",
    ]);
    const nine = await setOf(python(9), ["python3", "-m", "main.py"], "/app");
    expect(read(nine.paths)).toContain("/usr/lib/python3.9/os.py");
    expect(read(nine.paths)).not.toContain("/app/main.py");
  });

  it("has of a virtual environment its pyvenv.cfg and its packages, and Python's own library", async () => {
    const { paths } = await setOf(
      {
        "/usr/bin/python3.12": program(["libc.so.6"]),
        "/usr/lib/python3.12/os.py": filler(10),
        "/usr/lib/python3.12/encodings/utf_8.py": filler(10),
        "/venv/bin/python": { link: "/usr/bin/python3.12" },
        "/venv/pyvenv.cfg": filler(10),
        "/venv/lib/python3.12/site-packages/some.pth": filler(10),
      },
      ["/venv/bin/python", "-c", "pass"],
    );
    expect(paths.slice(-3)).toEqual([
      "/venv/pyvenv.cfg",
      "/usr/lib/python3.12/encodings/utf_8.py",
      "/venv/lib/python3.12/site-packages/some.pth",
    ]);
  });

  it("has of Node the nearest package.json and the script, whose ending may be left out", async () => {
    const files = {
      "/usr/bin/node": program(["libstdc++.so.6", "libc.so.6"]),
      "/app/package.json": filler(10),
      "/app/src/server.js": filler(10),
      "/package.json": filler(10),
    };
    const { paths } = await setOf(
      files,
      ["node", "--max-old-space-size=100", "-r", "x", "src/server", "package.json"],
      "/app",
    );
    expect(paths.slice(-2)).toEqual(["/app/package.json", "/app/src/server.js"]);
    expect((await setOf(files, ["node", "-e", "0", "src/server"], "/app")).paths).not.toContain(
      "/app/src/server.js",
    );
  });

  it("has of a JVM its library with what that needs, the index of its modules, and the jar", async () => {
    const home = "/opt/java";
    const modules = Buffer.alloc(100_000);
    [0xcafedada, 1, 0, 3, 10, 200, 3000].forEach((field, i) => {
      modules.writeUInt32LE(field, i * 4);
    });
    const { set, paths } = await setOf(
      {
        [`${home}/bin/java`]: program(["libjli.so", "libc.so.6"], { rpath: "$ORIGIN/../lib" }),
        [`${home}/lib/libjli.so`]: library("libjli.so"),
        [`${home}/lib/jvm.cfg`]: filler(10),
        [`${home}/lib/server/libjvm.so`]: library("libjvm.so", { needed: ["libm.so.6"] }),
        "/usr/lib/libm.so.6": library("libm.so.6"),
        [`${home}/lib/modules`]: { plain: modules },
        [`${home}/lib/libzip.so`]: library("libzip.so"),
        "/app/app.jar": filler(9 * MiB),
        "/usr/bin/java": { link: `${home}/bin/java` },
      },
      ["java", "-Xmx1g", "-jar", "/app/app.jar"],
    );
    expect(paths.slice(2)).toEqual([
      `${home}/lib/libjli.so`,
      "/usr/lib/libc.so.6",
      `${home}/lib/jvm.cfg`,
      `${home}/lib/server/libjvm.so`,
      "/usr/lib/libm.so.6",
      `${home}/lib/modules`,
      `${home}/lib/libzip.so`,
      "/app/app.jar",
    ]);
    const rangesOf = (path: string) => set.files.find(({ file }) => file.path === path)?.ranges;
    expect(rangesOf(`${home}/lib/modules`)).toEqual([{ start: 0, end: 28 + 8 * 10 + 200 + 3000 }]);
    expect(rangesOf("/app/app.jar")).toEqual([{ start: 8 * MiB, end: 9 * MiB }]);
  });
});

describe("the ranges of an object", () => {
  const objectOf = async (file: Buffer) => {
    const object = await readElf(
      async (offset, length) => file.subarray(offset, offset + length),
      file.length,
    );
    if (!isElf(object)) throw new Error(object.found);
    return object;
  };

  it("are all that is loaded of a library up to 8 MiB, and nothing of debug information behind it", async () => {
    const whole = await objectOf(elf({ padding: 2 * MiB }));
    const { end } = whole.segments[0]!;
    expect(libraryRanges(whole, end)).toEqual([{ start: 0, end }]);
    expect(libraryRanges(whole, 100 * MiB)).toEqual([{ start: 0, end: end + MiB / 2 }]);
  });

  it("are all of a program up to 32 MiB, and of one that Go made whatever its size", async () => {
    const loaded = async (bytes: number, note?: string) => {
      const object = await objectOf(elf(note === undefined ? {} : { note }));
      return { ...object, segments: [{ type: 1, flags: 5, start: 0, end: bytes, address: 0 }] };
    };
    expect(programRanges(await loaded(32 * MiB), 32 * MiB)).toEqual([{ start: 0, end: 32 * MiB }]);
    expect(libraryRanges(await loaded(32 * MiB), 32 * MiB)).not.toEqual([{ start: 0, end: 32 * MiB }]);
    expect(programRanges(await loaded(90 * MiB, "GNU"), 90 * MiB)).not.toEqual([{ start: 0, end: 90 * MiB }]);
    expect(programRanges(await loaded(90 * MiB, "Go\0"), 90 * MiB)).toEqual([{ start: 0, end: 90 * MiB }]);
  });

  it("of a larger one are its tables, the start of its code, and what is written to, read around", async () => {
    const object = {
      ...(await objectOf(elf())),
      entryOffset: 20 * MiB,
      dynamic: undefined,
      segments: [
        { type: 1, flags: 4, start: 0, end: 10 * MiB, address: 0 },
        { type: 1, flags: 5, start: 10 * MiB, end: 30 * MiB, address: 0 },
        { type: 1, flags: 4, start: 30 * MiB, end: 60 * MiB, address: 0 },
        { type: 1, flags: 6, start: 60 * MiB, end: 62 * MiB, address: 0 },
      ],
    };
    expect(libraryRanges(object, 62 * MiB + 10)).toEqual([
      { start: 0, end: MiB },
      { start: 10 * MiB, end: 11 * MiB },
      { start: 19.5 * MiB, end: 20.5 * MiB },
      { start: 59.5 * MiB, end: 62 * MiB + 10 },
    ]);
    expect(libraryRanges(object, 62 * MiB, { code: 0.5, constants: 0.1 })).toEqual([
      { start: 0, end: MiB },
      { start: 10 * MiB, end: 20.5 * MiB },
      { start: 30 * MiB, end: 33 * MiB },
      { start: 59.5 * MiB, end: 62 * MiB },
    ]);
  });

  it("are joined where they touch", () => {
    const ranges = [
      { start: 5, end: 7 },
      { start: 0, end: 2 },
      { start: 2, end: 3 },
      { start: 6, end: 6 },
      { start: 9, end: 9 },
    ];
    expect(joinedRanges(ranges)).toEqual([
      { start: 0, end: 3 },
      { start: 5, end: 7 },
    ]);
  });
});

describe("what may be read to find out", () => {
  it("is counted once for each fetch, and refused beyond the limit without being counted", () => {
    const { archive } = madeImage({ "/a": filler(4096 * 4) });
    const ino = archive.lookup(1, "a" as never);
    const allowance = new ReadAllowance(archive, 4096 * 3);
    expect(allowance.take(ino, 0, 4096 * 2)).toBe(true);
    expect(allowance.take(ino, 100, 4096)).toBe(true);
    expect(allowance.take(ino, 4096, 4096 * 3)).toBe(false);
    expect(allowance.take(ino, 4096 * 3, 10)).toBe(true);
    expect(allowance.take(ino, 4096 * 2, 10)).toBe(false);
  });
});
