/**
 * What a server and its holder say to each other: packets of fields that each end with NUL, and at most one descriptor. native/holder/requests.cc is the
 * other side.
 *
 * | a server says | is answered |
 * |---|---|
 * | `HELLO` n version watchdogMs abortAfterRestarts restarts(0\|1) logFile file argumentCount arguments... environment... | `WELCOME` n version restarts held, when a server before it has let go |
 * | `TAKE` n position | `HELD` n id mountpoint note initResult minor + descriptor, or `END` n |
 * | `MOUNT` n id mountpoint source allowOther(0\|1) note | `MOUNTED` n + descriptor |
 * | `HOLD` n id mountpoint note initResult minor + descriptor | `OK` n |
 * | `KEEP` n id initResult minor | `OK` n |
 * | `RELEASE` n id | `OK` n |
 * | `BEAT` n served | |
 * | `READY` n status | |
 * | `LEAVE` n all(0\|1) | `OK` n, and the connection is closed |
 *
 * `n` is a number of the server's choice that the answer repeats. Any request may be answered by `ERROR` n errno name syscall. The holder says by itself:
 * `LETGO` 0: another server wants the place.
 *
 * A holder of one version serves servers of all: fields that are not known are ignored, verbs that are not known are answered with ENOSYS.
 */

export const protocolVersion = "1";

/** The kernel's usual limit of a packet is 208 KiB, with some of its own in it. */
export const packetBytesMax = 192 * 1024;

export function encodePacket(fields: readonly string[]): Uint8Array {
  return Buffer.from(fields.map((field) => `${field}\0`).join(""));
}

/** The fields; what stands behind the last NUL is left out. */
export function decodePacket(packet: Uint8Array): string[] {
  return Buffer.from(packet.buffer, packet.byteOffset, packet.byteLength).toString().split("\0").slice(0, -1);
}
