import type { ServerResponse } from "node:http";
import { parseRangeHeader } from "../../src/registry/range-header.js";
import type { FakeAnswer } from "./fault-script.js";
import { sendAnswer } from "./scripted-server.js";

/** `bytes`, or the range of it that is asked for. */
export function rangeAnswer(bytes: Buffer, rangeHeader: string | undefined): FakeAnswer {
  const range = parseRangeHeader(rangeHeader, bytes.length);
  const type = { "content-type": "application/octet-stream" };
  if (range === "unsatisfiable") {
    return { status: 416, headers: { "content-range": `bytes */${bytes.length}` }, body: Buffer.alloc(0) };
  }
  if (!range)
    return { status: 200, headers: { ...type, "content-length": String(bytes.length) }, body: bytes };
  const body = bytes.subarray(range.start, range.end);
  const headers = {
    ...type,
    "content-range": `bytes ${range.start}-${range.end - 1}/${bytes.length}`,
    "content-length": String(body.length),
  };
  return { status: 206, headers, body };
}

export function sendRange(response: ServerResponse, bytes: Buffer, rangeHeader: string | undefined): void {
  sendAnswer(response, rangeAnswer(bytes, rangeHeader));
}
