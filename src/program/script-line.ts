/**
 * The first line of a script, as the kernel reads it (fs/binfmt_script.c): of the first 256 bytes of the file, padded with zeros, an interpreter
 * and at most one argument, which may have spaces in it.
 */
import { type ByteString, byteStringOf } from "../base/byte-string.js";

export interface ScriptLine {
  readonly interpreter: ByteString;
  readonly argument: ByteString | undefined;
  /** The line ends as on Windows. The kernel takes the carriage return for a part of the last word, and finds no such file. */
  readonly carriageReturn: boolean;
}

/** BINPRM_BUF_SIZE: what the kernel looks at to tell what a file is. */
export const execHeadBytes = 256;
/** A script may be interpreted by a script, and so on: the sixth of them is ELOOP (exec_binprm). */
export const scriptDepthMax = 5;

const space = (byte: number | undefined) => byte === 0x20 || byte === 0x09;
const newline = 0x0a;

/** `head`: up to execHeadBytes of the file. Undefined: no script. "refused": it begins as one, and execve(2) gives ENOEXEC. */
export function readScriptLine(head: Uint8Array): ScriptLine | "refused" | undefined {
  if (head[0] !== 0x23 || head[1] !== 0x21) return undefined;
  const bytes = Buffer.alloc(execHeadBytes);
  bytes.set(head.subarray(0, execHeadBytes));
  let end = bytes.indexOf(newline);
  if (end < 0) {
    // The kernel's buffer ends with a NUL of its own: a name that reaches it may be cut.
    end = execHeadBytes - 1;
    const first = skipSpaces(bytes, 2, end);
    if (first === end || terminator(bytes, first, end) === end) return "refused";
  }
  while (end > 2 && space(bytes[end - 1])) end--;
  const start = skipSpaces(bytes, 2, end);
  const nameEnd = terminator(bytes, start, end);
  if (nameEnd === start) return "refused";
  const interpreter = byteStringOf(bytes.subarray(start, nameEnd));
  const argumentStart = bytes[nameEnd] === 0 ? end : skipSpaces(bytes, nameEnd, end);
  const argumentEnd = argumentStart < end ? cString(bytes, argumentStart, end) : argumentStart;
  const argument =
    argumentEnd > argumentStart ? byteStringOf(bytes.subarray(argumentStart, argumentEnd)) : undefined;
  return { interpreter, argument, carriageReturn: (argument ?? interpreter).endsWith("\r") };
}

function skipSpaces(bytes: Buffer, start: number, end: number): number {
  let at = start;
  while (at < end && space(bytes[at])) at++;
  return at;
}

/** Where the word at `start` ends: at a space, a tab or a NUL. */
function terminator(bytes: Buffer, start: number, end: number): number {
  let at = start;
  while (at < end && !space(bytes[at]) && bytes[at] !== 0) at++;
  return at;
}

function cString(bytes: Buffer, start: number, end: number): number {
  const nul = bytes.indexOf(0, start);
  return nul < 0 || nul > end ? end : nul;
}
