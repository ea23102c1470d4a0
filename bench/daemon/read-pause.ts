// Reads a file over and over, past the page cache, and tells each read that took longer than any before: `{ "ms": 180 }`. Each of its reads is one
// request to the server of the mount, so while that is away, one of them waits.
//
// Usage: node read-pause.js FILE. A line on standard input begins anew; it ends with its standard input.
import { constants, openSync, readSync } from "node:fs";
import { createInterface } from "node:readline";

const file = openSync(process.argv[2]!, constants.O_RDONLY | constants.O_DIRECT);
const piece = Buffer.alloc(4096);
let longest = 0;
createInterface({ input: process.stdin })
  .on("line", () => {
    process.stdout.write(`${JSON.stringify({ ms: longest })}\n`);
    longest = 0;
  })
  .on("close", () => process.exit(0));

let at = 0;
function readSome(): void {
  for (let reads = 0; reads < 20; reads++) {
    const started = performance.now();
    if (readSync(file, piece, 0, piece.length, at) < piece.length) at = 0;
    at += piece.length;
    longest = Math.max(longest, performance.now() - started);
  }
  setImmediate(readSome);
}
readSome();
