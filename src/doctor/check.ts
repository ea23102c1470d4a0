/** What a check is, and what it finds. Each group of checks is a table of these, in a file of its own. */
import type { Subject } from "./subject.js";

/** "warn": it starts, and something that programs usually count on is not as they expect. "fail": it will not start, or what was asked for is not there. */
export type CheckStatus = "ok" | "warn" | "fail";

export interface Finding {
  readonly status: CheckStatus;
  /** What it is about, for people: bytes that are no text escaped. */
  readonly path?: string;
  /** A sentence without its full stop. */
  readonly detail: string;
  /** What to do; none where all is well. Without a full stop. */
  readonly fix?: string;
}

export interface Check {
  /** One word or two, as printed; never changes its meaning. */
  readonly id: string;
  readonly asks: string;
  /** How what it finds is mended, in general. */
  readonly fix: string;
  /** Nothing where it does not apply. Rejects as reading the image does. */
  run(subject: Subject): Promise<readonly Finding[]> | readonly Finding[];
}

export function ok(detail: string, path?: string): Finding {
  return { status: "ok", detail, ...(path === undefined ? {} : { path }) };
}

export function warn(path: string, detail: string, fix: string): Finding {
  return { status: "warn", path, detail, fix };
}

export function fail(path: string, detail: string, fix: string): Finding {
  return { status: "fail", path, detail, fix };
}

/** `one, two and 5 more` */
export function listText(names: readonly string[], shownMax = 8): string {
  const shown = names.slice(0, shownMax).join(", ");
  return names.length > shownMax ? `${shown} and ${names.length - shownMax} more` : shown;
}
