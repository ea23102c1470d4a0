import { execFileSync } from "node:child_process";

/** One zstd frame (Debian package zstd): a layer that can be decoded only from its start. */
export function zstdFixture(bytes: Uint8Array): Buffer {
  return execFileSync("zstd", ["-q", "-c", "-3"], { input: bytes, maxBuffer: 2 ** 28 });
}
