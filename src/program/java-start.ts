/** What a JVM reads before the first class of a program: `strace java Hello` of OpenJDK 17 (Debian 12). The layout is that of 9 and later. */
import type { ByteString } from "../base/byte-string.js";
import { isElf } from "./elf.js";
import { findLibraries } from "./libraries.js";
import { directoryOf, type ImageFile, joined, type ProgramImage } from "./program-image.js";
import type { StartFiles } from "./start-files.js";
import type { RunProgram } from "./start-programs.js";
import { libraryRanges, type SegmentShares } from "./start-ranges.js";

/** Measured: 96 % of the code of libjvm.so and 85 % of its constants were touched. */
const jvmShares: SegmentShares = { code: 1, constants: 1 };
const jimageHeaderBytes = 28;
const jimageMagic = 0xcafedada;
const indexBytesMax = 16 * 1024 * 1024;
/** The directory of an archive of some thousand classes. */
const jarEndBytes = 1024 * 1024;
const jarWholeBytesMax = 8 * 1024 * 1024;

export async function addJavaStart(
  image: ProgramImage,
  program: RunProgram,
  files: StartFiles,
): Promise<void> {
  const home = directoryOf(directoryOf(program.file.path));
  files.addPath(`${home}/lib/jvm.cfg`);
  const jvm = image.find(`${home}/lib/server/libjvm.so` as ByteString).file;
  if (jvm) await addJvm(image, program, jvm, files);
  files.addPath("/etc/localtime");
  files.addPath(`${home}/lib/libjimage.so`);
  const modules = image.find(`${home}/lib/modules` as ByteString).file;
  if (modules) files.add(modules, [{ start: 0, end: await jimageIndexEnd(image, modules) }]);
  files.addPath(`${home}/lib/libjava.so`);
  // The archive of classes that are loaded at every start (JEP 341) is read whole, all 13 MB.
  files.addPath(`${home}/lib/server/classes.jsa`);
  // x86 with AVX: stubs for vector mathematics are made at every start. Not there on other machines.
  files.addPath(`${home}/lib/libjsvml.so`);
  for (const jar of jarsOf(program.command.args)) {
    files.addPath(`${home}/lib/libzip.so`);
    const { file } = image.find(joined(program.command.directory, jar));
    const start = file && file.bytes > jarWholeBytesMax ? file.bytes - jarEndBytes : 0;
    if (file) files.add(file, [{ start, end: file.bytes }]);
  }
}

/** libjvm.so is loaded by libjli at run time, with what it needs in turn. */
async function addJvm(
  image: ProgramImage,
  program: RunProgram,
  jvm: ImageFile,
  files: StartFiles,
): Promise<void> {
  const object = await image.elf(jvm);
  if (!isElf(object)) return;
  files.add(jvm, libraryRanges(object, jvm.bytes, jvmShares));
  const { loader, object: java, command } = program;
  if (!loader?.file || java.interpreter === undefined) return;
  const search = { file: jvm, object, loader: loader.file, interpreter: java.interpreter, command };
  for (const { file, object: library } of (await findLibraries(image, search)).loaded)
    files.add(file, libraryRanges(library, file.bytes));
}

/**
 * Where the index of a jimage file ends: classes that the archive of classes has are never read from behind it. Header: magic, version, flags,
 * resource count, table length, bytes of locations, bytes of strings, u32 each (OpenJDK, jdk/internal/jimage/ImageHeader.java); the table has
 * two words an entry.
 */
async function jimageIndexEnd(image: ProgramImage, modules: ImageFile): Promise<number> {
  const header = await image.read(modules, 0, jimageHeaderBytes);
  if (header?.length !== jimageHeaderBytes) return 0;
  const littleEndian = header.readUInt32LE(0) === jimageMagic;
  if (!littleEndian && header.readUInt32BE(0) !== jimageMagic) return 0;
  const u32 = (at: number) => (littleEndian ? header.readUInt32LE(at) : header.readUInt32BE(at));
  return Math.min(jimageHeaderBytes + 8 * u32(16) + u32(20) + u32(24), modules.bytes, indexBytesMax);
}

/** Of `-jar FILE`, or of the class path. */
function jarsOf(args: readonly ByteString[]): ByteString[] {
  const jar = args.indexOf("-jar" as ByteString);
  const path = args.findIndex((arg) => arg === "-cp" || arg === "-classpath" || arg === "--class-path");
  const named = jar > 0 ? args.slice(jar + 1, jar + 2) : ((args[path + 1]?.split(":") ?? []) as ByteString[]);
  return jar > 0 || path > 0 ? named.filter((name) => name.endsWith(".jar")).slice(0, 64) : [];
}
