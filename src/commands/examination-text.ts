/** Examinations as lines for people: `FAIL interp /app: needs ..., not in the image. Fix: ...`, and a summary. */
import type { CheckStatus } from "../doctor/check.js";
import type { Examination, ExaminedCheck } from "../doctor/examine.js";
import { formatBytes } from "./format.js";

const words: Readonly<Record<CheckStatus, string>> = { ok: "OK", warn: "WARN", fail: "FAIL" };
/** SGR of ECMA-48: green, yellow, red; and back. */
const colours: Readonly<Record<CheckStatus, string>> = {
  ok: "\x1b[32m",
  warn: "\x1b[33m",
  fail: "\x1b[1;31m",
};
const plain = "\x1b[0m";

/** One line. */
export function checkLine({ status, id, path, detail, fix }: ExaminedCheck, colour = false): string {
  const word = words[status];
  const about = path === undefined ? `${id}:` : `${id} ${path}:`;
  const rest = withoutControls(`${about} ${detail}${fix ? `. Fix: ${fix}` : ""}`);
  return `${colour ? `${colours[status]}${word}${plain}` : word} ${rest}`;
}

export function summaryLine({ reference, checks, counts, ...cost }: Examination): string {
  const { fetchRequests, fetchedBytes, bytesRead, durationMs } = cost;
  const fetched =
    fetchRequests === 0
      ? "nothing fetched"
      : `${formatBytes(fetchedBytes)} fetched in ${fetchRequests} ${fetchRequests === 1 ? "request" : "requests"}`;
  const verdict = counts.fail > 0 ? "will not do" : counts.warn > 0 ? "starts" : "good";
  return `${reference}: ${verdict}: ${checks.length} checks, ${counts.fail} failed, ${counts.warn} warnings; ${formatBytes(bytesRead)} read, ${fetched}, ${durationMs} ms`;
}

/** What an image names must not steer a terminal. */
function withoutControls(text: string): string {
  return text.replace(/\p{Cc}/gu, (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** NO_COLOR of no-color.org. */
export function wantsColour(stream: { isTTY?: boolean }): boolean {
  return stream.isTTY === true && !process.env.NO_COLOR;
}
