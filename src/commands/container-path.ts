/** `ID:PATH` on a command line, as docker writes it, and words of it as the bytes that they are. */
import { readFileSync } from "node:fs";
import { type ByteString, byteStringFromText, byteStringOf } from "../base/byte-string.js";
import { SkimError } from "../base/errors.js";

export interface ContainerPath {
  readonly id: string;
  readonly path: ByteString;
}

/** Undefined for a path of this host: one with a `/` or a `.` at its start, or without a colon. */
export function parseContainerPath(typed: string): ContainerPath | undefined {
  const parts = /^([A-Za-z0-9][A-Za-z0-9_.-]{0,63}):(.*)$/s.exec(bytesTyped(typed));
  return parts ? { id: parts[1]!, path: (parts[2] || "/") as ByteString } : undefined;
}

/** Throws USAGE for anything else than ID:PATH. */
export function requireContainerPath(typed: string): ContainerPath {
  const parsed = parseContainerPath(typed);
  if (parsed) return parsed;
  throw new SkimError("USAGE", `${JSON.stringify(typed)} is no path in a container; the form is ID:PATH`);
}

/** A word of the command line. node makes text of them, and of what is not UTF-8 a replacement character; the kernel still has the bytes. */
export function bytesTyped(typed: string): ByteString {
  if (!typed.includes("\ufffd")) return byteStringFromText(typed);
  const words = byteStringOf(readFileSync("/proc/self/cmdline")).split("\0") as ByteString[];
  return (
    words.find((word) => Buffer.from(word, "latin1").toString("utf8") === typed) ?? byteStringFromText(typed)
  );
}
