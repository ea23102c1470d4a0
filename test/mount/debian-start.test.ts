import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Archive } from "../../src/archive/archive.js";
import { openArchive } from "../../src/archive/archive-reader.js";
import { byteStringFromText } from "../../src/base/byte-string.js";
import { silentLogger } from "../../src/base/logger.js";
import { resolveSettings } from "../../src/base/settings.js";
import { ImageFilesystem } from "../../src/filesystem/image-filesystem.js";
import { NativeEngine } from "../../src/fuse/native-engine.js";
import { openImageContent } from "../../src/mount/image-content.js";
import { indexImage } from "../../src/mount/index-image.js";
import { type NativeBinding, SessionEvent } from "../../src/native/binding.js";
import { loadNative } from "../../src/native/load.js";
import { ProgramImage } from "../../src/program/program-image.js";
import { startPrograms } from "../../src/program/start-programs.js";
import { startSpans } from "../../src/program/start-spans.js";
import { debianLayout } from "../support/debian-image.js";
import { makeTempDir } from "../support/temp-dir.js";

const env = ["PATH=/usr/local/bin:/usr/bin:/bin"];

/** What real starts read of a real image, beside what the start set says: spans of 64 KiB, so that neighbours count little. */
describe("the start set of a Debian image with Python", () => {
  let image: string;
  let archive: Archive;

  beforeAll(async () => {
    image = `oci:${await debianLayout()}:debian`;
    const dir = await makeTempDir("debian-start");
    const settings = { spanBytes: 65536, cacheDir: path.join(dir, "cache") };
    const indexed = await indexImage({ image, output: path.join(dir, "debian.skim"), settings });
    archive = await openArchive(indexed.archive);
  });
  afterAll(() => archive?.close());

  const contentOf = async () =>
    await openImageContent({
      archive,
      source: image,
      settings: resolveSettings({ cacheDir: await makeTempDir("start-cache") }),
      logger: silentLogger,
    });

  /** Standard output of `args` in a fresh mount, and the spans that it reads. */
  async function started(args: readonly string[]): Promise<{ stdout: string; touched: Set<number> }> {
    const { content, close } = await contentOf();
    const touched = new Set<number>();
    const native: NativeBinding = loadNative();
    const watched: NativeBinding = Object.assign(Object.create(native), {
      sessionStart: (
        ...[fd, tree, threads, trace, init, source, onEvents]: Parameters<NativeBinding["sessionStart"]>
      ) =>
        native.sessionStart(fd, tree, threads, trace, init, source, (events) => {
          for (let at = 0; at < events.length; at += 2)
            if (events[at] === SessionEvent.spanTouched) touched.add(events[at + 1]!);
          onEvents(events);
        }),
    });
    const mountpoint = await makeTempDir("start-mount");
    const session = await new NativeEngine({ loadNative: () => watched }).mount(
      { archive, content, filesystem: new ImageFilesystem({ archive, content }) },
      { mountpoint, allowOther: true, fsName: "start", logger: silentLogger, traceOperations: false },
    );
    try {
      const { stdout } = await promisify(execFile)("chroot", [mountpoint, ...args], {
        env: { PATH: "/usr/bin:/bin:/usr/sbin" },
        maxBuffer: 2 ** 24,
      });
      return { stdout, touched };
    } finally {
      await session.unmount();
      await close();
    }
  }

  it.each([
    ["a shell", ["/bin/sh", "-c", ":"]],
    ["Python", ["python3", "-c", "pass"]],
  ])("is what %s reads: nine spans of ten, and of ten spans nine are read", async (_, args) => {
    const { content, close } = await contentOf();
    const { spans } = await startSpans({
      archive,
      content,
      command: { args, env, workingDir: "" },
      reproducible: false,
    });
    await close();
    const { touched } = await started(args);
    const hits = spans.filter((span) => touched.has(span)).length;
    expect(hits / touched.size).toBeGreaterThan(0.9);
    expect(hits / spans.length).toBeGreaterThan(0.9);
  });

  it("has the libraries that the image's own loader loads for each of its programs, in its order", async () => {
    const list =
      'for f in /usr/bin/* /usr/sbin/*; do echo "== $f"; /lib64/ld-linux-x86-64.so.2 --list "$f" 2>&1; done';
    const { stdout } = await started(["/bin/sh", "-c", list]);
    const { content, close } = await contentOf();
    const image = new ProgramImage(new ImageFilesystem({ archive, content }));
    let programs = 0;
    for (const [, path, lines] of stdout.matchAll(/^== (.*)\n((?:\t.*\n)*)/gm)) {
      const listed = [...lines!.matchAll(/=> (\/\S+) \(/g)].map(([, file]) => realPath(image, file!));
      const directory = byteStringFromText("/");
      const [program] = await startPrograms(image, { args: [byteStringFromText(path!)], env: [], directory });
      if (program?.kind !== "program" || !program.libraries) {
        expect(listed, path).toEqual([]);
        continue;
      }
      programs++;
      expect(
        program.libraries.loaded.map(({ file }) => file.path),
        path,
      ).toEqual(listed);
      expect(program.libraries.missing, path).toEqual([]);
    }
    await close();
    expect(programs).toBeGreaterThan(200);
  });

  it("that the archive has is the one of its own command", async () => {
    const { content, close } = await contentOf();
    const { spans } = await startSpans({
      archive,
      content,
      command: { args: ["python3"], env, workingDir: "" },
      reproducible: true,
    });
    await close();
    expect(Array.from(archive.startSpans!)).toEqual(spans);
  });
});

const realPath = (image: ProgramImage, path: string) => image.find(byteStringFromText(path)).file?.path;
