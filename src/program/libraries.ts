/**
 * What a dynamic loader loads for a program: the closure of DT_NEEDED, each library looked for where glibc (elf/dl-load.c, ld.so(8)) or musl
 * (ldso/dynlink.c) looks, in the order in which they load.
 *
 * What is found has been read: an object of another class or machine is passed over, as both loaders do. What the host's processor decides (the
 * glibc-hwcaps directories) is left out: the library without it is there as well.
 */
import type { ByteString } from "../base/byte-string.js";
import { type ElfObject, isElf } from "./elf.js";
import type { Command } from "./env-command.js";
import {
  type LibraryCache,
  libraryCacheBytesMax,
  libraryCachePath,
  readLibraryCache,
} from "./library-cache.js";
import { builtInDirectories, configuredDirectories, muslDirectories } from "./library-directories.js";
import { baseNameOf, directoryOf, type ImageFile, joined, type ProgramImage } from "./program-image.js";

/** Which place of the search had a library. "configuration": ld.so.conf, where the loader itself looks only after ldconfig has run. */
export type LibraryPlace =
  | "path"
  | "preload"
  | "rpath"
  | "LD_LIBRARY_PATH"
  | "runpath"
  | "cache"
  | "default"
  | "configuration";

export interface LoadedLibrary {
  /** As it is asked for. */
  readonly name: ByteString;
  /** Path of the object that needs it first. */
  readonly neededBy: ByteString;
  readonly place: LibraryPlace;
  readonly file: ImageFile;
  readonly object: ElfObject;
}

export interface MissingLibrary {
  readonly name: ByteString;
  readonly neededBy: ByteString;
  /** Where it was looked for, in order. */
  readonly searched: readonly ByteString[];
  /** Files of that name that do not fit, and why. */
  readonly unfit: ReadonlyArray<{ readonly path: ByteString; readonly found: string }>;
}

export interface Libraries {
  /** In the order in which they are loaded; the program and the loader are not among them. */
  readonly loaded: readonly LoadedLibrary[];
  readonly missing: readonly MissingLibrary[];
  /** How many were not looked for, or not to the end: the search paths are too long. */
  readonly unsearched: number;
  /** Configuration that the loader itself reads: ld.so.preload, ld.so.cache, musl's path file. */
  readonly configuration: readonly ImageFile[];
}

/** A program with its loader. */
export interface LoadedProgram {
  readonly file: ImageFile;
  readonly object: ElfObject;
  /** The file of PT_INTERP. */
  readonly loader: ImageFile;
  /** As PT_INTERP names it. */
  readonly interpreter: ByteString;
  readonly command: Command;
}

/** Programs of the largest desktops load 300. */
const objectsMax = 1024;
const searchedMax = 256;
/** Paths that are looked for, for one program: three hundred libraries in twenty places take 6,000. Search paths come from the image. */
const findsMax = 20_000;
const preloadBytesMax = 64 * 1024;
/** Names that musl takes for itself: `lib` + one of these. */
const muslOwn = /^lib(c|pthread|rt|m|dl|util|xnet)\./;

interface LoadedObject {
  readonly file: ImageFile;
  readonly object: ElfObject;
  /** Undefined for the program. */
  readonly parent: LoadedObject | undefined;
}

/** Rejects only as reading the image does. */
export async function findLibraries(image: ProgramImage, program: LoadedProgram): Promise<Libraries> {
  return await new LibrarySearch(image, program).closure();
}

class LibrarySearch {
  readonly #image: ProgramImage;
  readonly #program: LoadedProgram;
  readonly #isMusl: boolean;
  readonly #loaded: LoadedLibrary[] = [];
  readonly #missing: MissingLibrary[] = [];
  readonly #configuration: ImageFile[] = [];
  readonly #names = new Set<ByteString>();
  readonly #inos = new Set<number>();
  #finds = 0;
  #unsearched = 0;
  #cache: LibraryCache = new Map();
  #systemDirectories: readonly ByteString[] = [];
  #configured: readonly ByteString[] = [];

  constructor(image: ProgramImage, program: LoadedProgram) {
    this.#image = image;
    this.#program = program;
    this.#isMusl = baseNameOf(program.interpreter).startsWith("ld-musl-");
    this.#inos.add(program.loader.ino);
    this.#names.add(baseNameOf(program.interpreter));
  }

  async closure(): Promise<Libraries> {
    const { file, object } = this.#program;
    const main: LoadedObject = { file, object, parent: undefined };
    const preloaded = await this.#preloadNames();
    await (this.#isMusl ? this.#readMuslPaths() : this.#readGlibcPaths());
    // Breadth first, as both loaders load.
    const queue: LoadedObject[] = [];
    for (const name of preloaded) await this.#load(name, main, queue, "preload");
    queue.unshift(main);
    this.#readAhead(main);
    for (let next = queue.shift(); next; next = queue.shift()) {
      for (const name of next.object.dynamic?.needed ?? []) await this.#load(name, next, queue);
    }
    return {
      ...{ loaded: this.#loaded, missing: this.#missing },
      ...{ unsearched: this.#unsearched, configuration: this.#configuration },
    };
  }

  async #load(name: ByteString, by: LoadedObject, queue: LoadedObject[], place?: "preload"): Promise<void> {
    if (this.#names.has(name) || this.#inos.size >= objectsMax) return;
    this.#names.add(name);
    if (this.#isMusl && muslOwn.test(name)) return;
    const found = this.#isExhausted ? undefined : await this.#search(name, by);
    if (!found || (!("file" in found) && this.#isExhausted)) {
      this.#unsearched++;
      return;
    }
    if (!("file" in found)) {
      this.#missing.push({ name, neededBy: by.file.path, ...found });
      return;
    }
    const { file, object } = found;
    if (this.#inos.has(file.ino)) return;
    this.#inos.add(file.ino);
    if (object.dynamic?.soname) this.#names.add(object.dynamic.soname);
    this.#loaded.push({ name, neededBy: by.file.path, place: place ?? found.place, file, object });
    const loaded = { file, object, parent: by };
    queue.push(loaded);
    this.#readAhead(loaded);
  }

  get #isExhausted(): boolean {
    return this.#finds > findsMax;
  }

  #find(path: ByteString): ImageFile | undefined {
    return ++this.#finds > findsMax
      ? undefined
      : this.#image.find(path, this.#program.command.directory).file;
  }

  /** Begins to read what the object needs, as far as names tell which files that are: over a network all of them take as long as one. */
  #readAhead(by: LoadedObject): void {
    for (const name of by.object.dynamic?.needed ?? []) {
      if (this.#isExhausted) return;
      if (this.#names.has(name)) continue;
      for (const [, path] of this.#candidates(name, by)) {
        if (this.#isExhausted) return;
        const file = this.#find(path);
        if (!file) continue;
        // Whoever comes to it in its turn gets the failure.
        if (this.#image.readsAhead) this.#image.elf(file).catch(() => {});
        else this.#image.willRead(file);
        break;
      }
    }
  }

  async #search(
    name: ByteString,
    by: LoadedObject,
  ): Promise<Pick<LoadedLibrary, "place" | "file" | "object"> | Pick<MissingLibrary, "searched" | "unfit">> {
    const searched: ByteString[] = [];
    const unfit: { path: ByteString; found: string }[] = [];
    for (const [place, path] of this.#candidates(name, by)) {
      if (this.#isExhausted) break;
      const file = this.#find(path);
      if (!file) {
        if (searched.length < searchedMax) searched.push(path);
        continue;
      }
      const object = await this.#image.elf(file);
      const found = isElf(object) ? this.#misfit(object) : object.found;
      if (found === undefined) return { place, file, object: object as ElfObject };
      unfit.push({ path, found });
    }
    return { searched, unfit };
  }

  *#candidates(name: ByteString, by: LoadedObject): Iterable<readonly [LibraryPlace, ByteString]> {
    if (name.includes("/")) {
      for (const path of this.#expanded(name, by)) yield ["path", path];
      return;
    }
    const environment = within(name, "LD_LIBRARY_PATH", this.#environmentDirectories());
    if (this.#isMusl) {
      yield* environment;
      yield* within(name, "rpath", this.#muslRpaths(by));
      yield* within(name, "default", this.#systemDirectories);
      return;
    }
    yield* within(name, "rpath", this.#rpaths(by));
    yield* environment;
    yield* within(name, "runpath", this.#searchPath(by.object.dynamic?.runpath, by));
    if (by.object.dynamic?.noDefaultDirectories) return;
    for (const path of this.#cache.get(name) ?? []) yield ["cache", path];
    yield* within(name, "default", this.#systemDirectories);
    yield* within(name, "configuration", this.#configured);
  }

  /** glibc: DT_RPATH of the object, of what loaded it and so on, and of the program; none of an object that has a DT_RUNPATH counts. */
  *#rpaths(by: LoadedObject): Iterable<ByteString> {
    if (by.object.dynamic?.runpath !== undefined) return;
    for (let one: LoadedObject | undefined = by; one; one = one.parent) {
      const { rpath, runpath } = one.object.dynamic ?? {};
      if (runpath === undefined) yield* this.#searchPath(rpath, one);
    }
  }

  /** musl: of the object and of all that need it; there is no difference between DT_RPATH and DT_RUNPATH. */
  *#muslRpaths(by: LoadedObject): Iterable<ByteString> {
    for (let one: LoadedObject | undefined = by; one; one = one.parent)
      yield* this.#searchPath(one.object.dynamic?.runpath ?? one.object.dynamic?.rpath, one);
  }

  /** $ORIGIN in it is the program's, whoever needs the library. An empty variable is none; an empty part is the working directory. */
  *#environmentDirectories(): Iterable<ByteString> {
    const value = this.#environment("LD_LIBRARY_PATH");
    if (value) yield* this.#searchPath(value.replace(/;/g, ":") as ByteString, this.#program);
  }

  *#searchPath(path: ByteString | undefined, by: Pick<LoadedObject, "file">): Iterable<ByteString> {
    if (!path) return;
    for (const directory of path.split(":")) yield* this.#expanded(directory as ByteString, by);
  }

  /** $ORIGIN, $LIB and $PLATFORM, which is the machine as uname(2) has it. */
  #expanded(text: ByteString, by: Pick<LoadedObject, "file">): ByteString[] {
    if (!text.includes("$")) return [text];
    const replaced = text.replace(/\$(ORIGIN\b|\{ORIGIN\})/g, () => directoryOf(by.file.path));
    const platform = replaced.replace(/\$(PLATFORM\b|\{PLATFORM\})/g, platformOf(this.#program.object));
    // How glibc was built decides what $LIB is; each of the three is used by somebody.
    const directories = [...new Set([this.#libraryDirectory(), "lib64", "lib"])];
    const found = directories.map((directory) => platform.replace(/\$(LIB\b|\{LIB\})/g, () => directory));
    return [...new Set(found)] as ByteString[];
  }

  /** `lib/x86_64-linux-gnu` of Debian: where the loader is, without its leading slash and /usr. */
  #libraryDirectory(): string {
    return directoryOf(this.#program.loader.path).replace(/^\/(usr\/)?/, "");
  }

  #environment(name: string): string | undefined {
    return this.#program.command.env.find((one) => one.startsWith(`${name}=`))?.slice(name.length + 1);
  }

  async #preloadNames(): Promise<ByteString[]> {
    const names = (this.#environment("LD_PRELOAD") ?? "").split(/[ :]/);
    const { file } = this.#isMusl
      ? { file: undefined }
      : this.#image.find("/etc/ld.so.preload" as ByteString);
    const text = file && (await this.#image.readSmall(file, preloadBytesMax));
    if (file) this.#configuration.push(file);
    names.push(...(text?.toString("latin1").replace(/#.*$/gm, "").split(/[\s:]/) ?? []));
    return names.filter(Boolean) as ByteString[];
  }

  async #readMuslPaths(): Promise<void> {
    const architecture = /^ld-musl-(.*)\.so/.exec(baseNameOf(this.#program.interpreter))?.[1];
    const path = `/etc/ld-musl-${architecture}.path` as ByteString;
    const { file } = this.#image.find(path);
    if (file) this.#configuration.push(file);
    const directories = await muslDirectories(this.#image, path);
    this.#systemDirectories = directories ?? (["/lib", "/usr/local/lib", "/usr/lib"] as ByteString[]);
  }

  async #readGlibcPaths(): Promise<void> {
    const { object, loader } = this.#program;
    const wide = object.bits === 64 ? ["/lib64", "/usr/lib64"] : [];
    const usual = [directoryOf(loader.path), ...wide, "/lib", "/usr/lib"] as ByteString[];
    this.#systemDirectories = (await builtInDirectories(this.#image, loader)) ?? usual;
    const { file } = this.#image.find(libraryCachePath);
    const bytes = file && (await this.#image.readSmall(file, libraryCacheBytesMax));
    const cache = bytes && readLibraryCache(bytes, object.littleEndian);
    if (file) this.#configuration.push(file);
    if (cache) this.#cache = cache;
    else this.#configured = await configuredDirectories(this.#image);
  }

  #misfit(object: ElfObject): string | undefined {
    const { bits, machine, littleEndian } = this.#program.object;
    if (object.bits !== bits) return `it has ${object.bits} bits, the program ${bits}`;
    if (object.machine !== machine || object.littleEndian !== littleEndian)
      return `it is for machine ${object.machine}, the program for ${machine}`;
    return object.dynamic ? undefined : "it is no shared object";
  }
}

/** AT_PLATFORM by e_machine; elf.h has the numbers. */
function platformOf({ machine, littleEndian }: ElfObject): string {
  const names: Readonly<Record<number, string>> = {
    3: "i686",
    22: "s390x",
    40: "v7l",
    62: "x86_64",
    183: "aarch64",
  };
  if (machine === 21) return littleEndian ? "ppc64le" : "ppc64";
  return names[machine] ?? "";
}

function* within(
  name: ByteString,
  place: LibraryPlace,
  directories: Iterable<ByteString>,
): Iterable<readonly [LibraryPlace, ByteString]> {
  for (const directory of directories) yield [place, joined((directory || ".") as ByteString, name)];
}
