/** Which file a command's name means: as execvp(3) and container runtimes look for it, in the image. */
import type { ByteString } from "../base/byte-string.js";
import type { Command } from "./env-command.js";
import { type ImageFile, joined, type NoFile, type ProgramImage } from "./program-image.js";

export interface FoundCommand {
  readonly file: ImageFile;
  /** The path by which it is started, symlinks kept: programs look at it. */
  readonly path: ByteString;
}

export interface NoCommand {
  readonly file?: undefined;
  readonly why: NoFile;
  /** Paths that were tried, in order. */
  readonly searched: readonly ByteString[];
}

/** confstr(_CS_PATH) of glibc, which execvp(3) takes where there is no PATH. */
const pathDefault = "/bin:/usr/bin";
const directoriesMax = 256;

/** A file that cannot be executed is passed over, as long as the search has other places; then it is EACCES. */
export function findCommand(
  image: ProgramImage,
  name: ByteString,
  command: Command,
): FoundCommand | NoCommand {
  const searched: ByteString[] = [];
  let why: NoFile = "ENOENT";
  for (const path of placesOf(name, command)) {
    const found = image.find(path);
    searched.push(path);
    if (found.file?.executable) return { file: found.file, path };
    if (found.file) why = "EACCES";
    else if (why === "ENOENT" || name.includes("/")) why = found.why;
  }
  return { why, searched };
}

function placesOf(name: ByteString, { env, directory }: Command): ByteString[] {
  if (name === "") return [];
  if (name.includes("/")) return [joined(directory, name)];
  const path = env.find((one) => one.startsWith("PATH="))?.slice("PATH=".length) ?? pathDefault;
  return path
    .split(":", directoriesMax)
    .map((place) => joined(joined(directory, (place || ".") as ByteString), name));
}
