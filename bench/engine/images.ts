/**
 * The trees that the engine scenario measures, each made when it is first asked for: as an archive whose layers are whole in a cache
 * directory, and the same tree on an ext4.
 */
import { cp, mkdir } from "node:fs/promises";
import path from "node:path";
import { indexImage } from "../../src/mount/index-image.js";
import { Ext4Image, type Ext4Size } from "../support/ext4-image.js";
import { run } from "../support/processes.js";
import { layoutOfTar } from "../support/tar-layout.js";
import { emptyFiles, fileWithXattr, randomFile, writeTar } from "../support/tar-tree.js";
import { BenchServer } from "./server.js";
import { fuseSystem } from "./systems.js";

const MiB = 1024 * 1024;

/** The big file: more than the caches of any processor, and a third of a second at memory speed. */
export const bigFileName = "big";
export const bigFileBytes = 512 * MiB;

export interface ImageOnExt4 {
  readonly image: Ext4Image;
  /** Where the tree is in it. */
  readonly subdirectory: string;
}

/** A tree in both forms; `ext4` may be missing where nothing is compared with it. */
export interface BenchImage {
  readonly archive: string;
  readonly cacheDir: string;
}

export interface ImageMaker {
  readonly workDir: string;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

export class BenchImages {
  readonly #maker: ImageMaker;
  readonly #made = new Map<string, Promise<unknown>>();

  constructor(maker: ImageMaker) {
    this.#maker = maker;
  }

  /** Debian with Python and numpy: about 10,000 files. */
  debian(): Promise<BenchImage> {
    return this.#once("debian", async () =>
      this.#indexed("debian", `oci:${await this.#debianLayout()}:debian`),
    );
  }

  /** The same and one file more, which has an extended attribute: the kernel's questions for xattrs must be answered. */
  debianWithXattrs(): Promise<BenchImage> {
    return this.#once("debian-xattrs", async () => {
      const { workDir, signal } = this.#maker;
      const layout = path.join(workDir, "debian-xattrs.oci");
      await cp(await this.#debianLayout(), layout, { recursive: true });
      const tar = await writeTar(`${layout}.tar`, fileWithXattr("etc/skim-bench"), signal);
      await run("umoci", ["raw", "add-layer", "--image", `${layout}:debian`, tar.file], { signal });
      return await this.#indexed("debian-xattrs", `oci:${layout}:debian`);
    });
  }

  debianOnExt4(): Promise<ImageOnExt4> {
    return this.#once("debian.ext4", async () => {
      const { signal } = this.#maker;
      const layout = await this.#debianLayout();
      const unpack = (directory: string) =>
        run("umoci", ["unpack", "--image", `${layout}:debian`, path.join(directory, "bundle")], { signal });
      const image = await this.#onExt4("debian", { bytes: 1024 * MiB, inodes: 40_000 }, unpack);
      return { image, subdirectory: "bundle/rootfs" };
    });
  }

  /** Empty files, a thousand in a directory. */
  async many(files: number): Promise<BenchImage> {
    return (await this.#tarred(`${files}-files`, () => emptyFiles(files))).image;
  }

  async manyOnExt4(files: number): Promise<ImageOnExt4> {
    // 256 bytes an inode, and directories; nothing else.
    const size = { bytes: 64 * MiB + files * 512, inodes: files + files / 500 + 1000 };
    return await this.#tarOnExt4(`${files}-files`, () => emptyFiles(files), size);
  }

  /** One file of `bigFileBytes` random bytes. */
  async big(): Promise<BenchImage> {
    return (await this.#tarred("big", () => randomFile(bigFileName, bigFileBytes))).image;
  }

  async bigOnExt4(): Promise<ImageOnExt4> {
    const size = { bytes: bigFileBytes + 128 * MiB, inodes: 1000 };
    return await this.#tarOnExt4("big", () => randomFile(bigFileName, bigFileBytes), size);
  }

  #debianLayout(): Promise<string> {
    return this.#once("debian.oci", async () => {
      const root = path.resolve(import.meta.dirname, "../..");
      const layout = path.join(root, ".fixtures/debian-image");
      const { signal } = this.#maker;
      await run(path.join(root, "scripts/make-debian-image.sh"), [layout], { signal });
      return layout;
    });
  }

  #tarred(name: string, members: () => Iterable<Buffer>): Promise<{ image: BenchImage; tar: string }> {
    return this.#once(name, async () => {
      const { workDir, signal, say } = this.#maker;
      say(`making the tree ${name}`);
      const layout = path.join(workDir, `${name}.oci`);
      const tar = await layoutOfTar(layout, "bench", await writeTar(`${layout}.tar`, members(), signal));
      return { image: await this.#indexed(name, `oci:${layout}:bench`), tar };
    });
  }

  #tarOnExt4(name: string, members: () => Iterable<Buffer>, size: Ext4Size): Promise<ImageOnExt4> {
    return this.#once(`${name}.ext4`, async () => {
      const { signal } = this.#maker;
      const { tar } = await this.#tarred(name, members);
      const image = await this.#onExt4(name, size, async (directory) => {
        await mkdir(path.join(directory, "tree"));
        await run("tar", ["-xf", tar, "-C", path.join(directory, "tree")], { signal });
      });
      return { image, subdirectory: "tree" };
    });
  }

  async #onExt4(name: string, size: Ext4Size, populate: (directory: string) => Promise<unknown>) {
    const { workDir, signal, say } = this.#maker;
    say(`extracting ${name} on ext4`);
    return await Ext4Image.make(path.join(workDir, `${name}.ext4`), size, populate, signal);
  }

  /** Indexes the image and reads everything in it once through a mount, by which its layers come into the cache. */
  async #indexed(name: string, reference: string): Promise<BenchImage> {
    const { workDir, signal, say } = this.#maker;
    say(`indexing ${name} and filling the cache`);
    const image = { archive: path.join(workDir, `${name}.skim`), cacheDir: path.join(workDir, "cache") };
    await indexImage({
      image: reference,
      output: image.archive,
      settings: { cacheDir: image.cacheDir },
      signal,
    });
    const server = new BenchServer("native");
    try {
      await server.ask("open", image);
      const directory = path.join(workDir, `${name}.fill`);
      await mkdir(directory);
      const tree = await fuseSystem(server).mount(directory);
      try {
        const readAll = ["-type", "f", "-size", "+0", "-exec", "cat", "{}", "+"];
        await run("find", [directory, ...readAll], { signal, discard: true });
      } finally {
        await tree.close();
      }
    } finally {
      await server.end();
    }
    // What is written back to disk now is not written during a measurement.
    await run("sync", [], { signal });
    return image;
  }

  #once<T>(name: string, make: () => Promise<T>): Promise<T> {
    let made = this.#made.get(name) as Promise<T> | undefined;
    if (!made) {
      made = make();
      this.#made.set(name, made);
    }
    return made;
  }
}
