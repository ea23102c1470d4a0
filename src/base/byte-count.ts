/** Powers of 1000, as bytes are counted by networks and disks; with an i in the middle powers of 1024. */
const units = ["", "K", "M", "G", "T"];

/** Reads `500`, `20M`, `1.5GB`, `20GiB`: bytes, rounded to whole ones. Undefined for everything else. */
export function parseByteCount(text: string): number | undefined {
  const found = /^(\d+(?:\.\d+)?) ?([kKMGT]?)(i?)B?$/.exec(text.trim());
  if (!found) return undefined;
  const [, digits, unit, binary] = found;
  if (binary && !unit) return undefined;
  const bytes = Math.round(Number(digits) * (binary ? 1024 : 1000) ** units.indexOf(unit!.toUpperCase()));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
