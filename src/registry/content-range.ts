/** Content-Range of a 206 (RFC 9110 14.4): `bytes first-last/total`, last included; total is `*` where it is not known. */
export interface ContentRange {
  readonly start: number;
  /** Exclusive, as everywhere in skim. */
  readonly end: number;
  readonly total: number | undefined;
}

/** Undefined for a header that is missing, malformed or contradicts itself. */
export function parseContentRange(header: string | undefined): ContentRange | undefined {
  const found = /^\s*bytes\s+(\d+)-(\d+)\/(\d+|\*)\s*$/i.exec(header ?? "");
  if (!found) return undefined;
  const start = Number(found[1]);
  const end = Number(found[2]) + 1;
  const total = found[3] === "*" ? undefined : Number(found[3]);
  if (!Number.isSafeInteger(end) || start >= end || (total !== undefined && end > total)) return undefined;
  return { start, end, total };
}
