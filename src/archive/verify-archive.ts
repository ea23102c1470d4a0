import { setImmediate } from "node:timers/promises";
import { crc32, inflateRawSync } from "node:zlib";
import { invariant } from "../base/errors.js";
import type { Archive } from "./archive.js";
import { refusalOf } from "./refusal.js";

/** Windows between two turns of the event loop: about 10 ms of inflating. */
const windowsPerTurn = 128;

export interface ArchiveVerification {
  /** Windows that were inflated, and their bytes as stored. */
  readonly windows: number;
  readonly windowBytes: number;
}

/**
 * Checks what opening an archive leaves out: that every window inflates to exactly its length, and the CRC of them all. (That
 * the bytes of files are what the archive says is proved span by span when they are read.) `label` names the archive in errors.
 * Throws ARCHIVE_DAMAGED, LOCAL_IO, and `signal.reason` when `signal` fires.
 */
export async function verifyArchive(
  archive: Archive,
  options: { label: string; signal?: AbortSignal },
): Promise<ArchiveVerification> {
  const refuse = refusalOf(options.label);
  const section = archive.sections.find(({ name }) => name === "windows");
  invariant(section, "an open archive has a section windows");
  let windows = 0;
  let windowBytes = 0;
  let crc = 0;
  // The windows follow each other without gap in the order of the spans: together they are the section.
  for (let spanIndex = 0; spanIndex < archive.spanCount; spanIndex++) {
    if (spanIndex % windowsPerTurn === 0) await setImmediate();
    options.signal?.throwIfAborted();
    const { windowLength } = archive.span(spanIndex);
    const stored = archive.window(spanIndex);
    if (stored.length === 0) continue;
    crc = crc32(stored, crc);
    const found = inflated(stored, windowLength);
    if (typeof found !== "number") {
      throw refuse(
        "windows",
        windows,
        `the window of span ${spanIndex} does not inflate to ${windowLength} bytes`,
        found,
      );
    }
    if (found !== stored.length) {
      throw refuse(
        "windows",
        windows,
        `the window of span ${spanIndex} ends after ${found} of ${stored.length} bytes`,
      );
    }
    windows++;
    windowBytes += stored.length;
  }
  if (crc !== section.crc) throw refuse("windows", undefined, "the section's CRC is wrong");
  return { windows, windowBytes };
}

/** How many bytes of `stored` it takes to inflate to `length` bytes; or why it does not. */
function inflated(stored: Uint8Array, length: number): number | { cause?: unknown } {
  try {
    // The result of `info` is not in the types: { buffer, engine }, the engine counting what it took in.
    const { buffer, engine } = inflateRawSync(stored, { maxOutputLength: length, info: true }) as unknown as {
      buffer: Buffer;
      engine: { bytesWritten: number };
    };
    return buffer.length === length ? engine.bytesWritten : {};
  } catch (cause) {
    return { cause };
  }
}
