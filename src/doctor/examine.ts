/** Runs all checks over a subject. */
import type { Digest } from "../image/digest.js";
import { type Platform, platformText } from "../image/platform.js";
import { architectureChecks } from "./architecture-checks.js";
import { attributeChecks } from "./attribute-checks.js";
import type { Check, CheckStatus, Finding } from "./check.js";
import { directoryChecks } from "./directory-checks.js";
import { layerChecks } from "./layer-checks.js";
import { lazyChecks } from "./lazy-checks.js";
import { mountChecks } from "./mount-checks.js";
import { programChecks } from "./program-checks.js";
import type { Subject } from "./subject.js";
import { toolChecks } from "./tool-checks.js";
import { userChecks } from "./user-checks.js";

/** All checks, in the order in which they are made and printed. */
export const allChecks: readonly Check[] = [
  ...layerChecks,
  ...architectureChecks,
  ...userChecks,
  ...directoryChecks,
  ...mountChecks,
  ...programChecks,
  ...toolChecks,
  ...attributeChecks,
  ...lazyChecks,
];

export interface ExaminedCheck extends Finding {
  readonly id: string;
  /** Bytes of files that this check was the first to read, decompressed. The same for each finding of one check. */
  readonly bytesRead: number;
}

export interface Examination {
  readonly reference: string;
  /** Undefined where not even the manifest could be had, which is a finding then. */
  readonly manifestDigest: Digest | undefined;
  /** Of the image, `os/arch[/variant]`; undefined as above. */
  readonly platform: string | undefined;
  readonly host: string;
  /** One a finding, in the order of the start as far as there is one. */
  readonly checks: readonly ExaminedCheck[];
  /** How many findings have each status. */
  readonly counts: Readonly<Record<CheckStatus, number>>;
  /** Bytes of files that were read, decompressed. */
  readonly bytesRead: number;
  /** What that took of the registry: requests for ranges, and compressed bytes. */
  readonly fetchRequests: number;
  readonly fetchedBytes: number;
  readonly durationMs: number;
}

export interface FetchCounters {
  readonly fetchRequests: number;
  readonly fetchedBytes: number;
}

/** Those of `ids`, or all, one after the other, so that it can be told what each reads. Rejects as reading the image does. */
export async function runChecks(
  subject: Subject,
  ids: ReadonlySet<string> | undefined,
): Promise<ExaminedCheck[]> {
  const found: ExaminedCheck[] = [];
  // The accounts have been read for whoever asks about the user.
  let before = 0;
  for (const check of allChecks) {
    if (ids && !ids.has(check.id)) continue;
    const findings = await check.run(subject);
    const after = subject.bytesRead;
    if (findings.length > 0) {
      found.push(...findings.map((finding) => ({ id: check.id, ...finding, bytesRead: after - before })));
      before = after;
    }
  }
  return found;
}

export function examinationOf(
  image: Pick<Examination, "reference" | "manifestDigest">,
  platforms: { readonly image: Platform | undefined; readonly host: Platform },
  checks: readonly ExaminedCheck[],
  cost: FetchCounters & Pick<Examination, "bytesRead" | "durationMs">,
): Examination {
  const count = (status: CheckStatus) => checks.filter((check) => check.status === status).length;
  return {
    reference: image.reference,
    manifestDigest: image.manifestDigest,
    platform: platforms.image && platformText(platforms.image),
    host: platformText(platforms.host),
    checks,
    counts: { ok: count("ok"), warn: count("warn"), fail: count("fail") },
    ...cost,
  };
}
