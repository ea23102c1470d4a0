/** Amounts of bytes as people write them: `1073741824`, `20GiB`, `20GB`, `1.5TiB`, or a share of the filesystem, `50%`. */
import { SkimError } from "./errors.js";

export type ByteAmount = { readonly bytes: number } | { readonly share: number };

const amountPattern = /^(\d+(?:\.\d+)?)\s*(%|[KMGTP]i?B?|B)?$/i;
const exponents = "KMGTP";

/** Throws USAGE. Letters may be small; `G` is `GiB`, as with systemd and docker. */
export function parseByteAmount(text: string): ByteAmount {
  const match = amountPattern.exec(text.trim());
  const number = Number(match?.[1]);
  const unit = match?.[2]?.toUpperCase() ?? "B";
  if (!match || (unit === "%" && number > 100)) {
    throw new SkimError(
      "USAGE",
      `${JSON.stringify(text)} is no amount of bytes; write 1073741824, 20GiB, 20GB, or 50% (of the filesystem)`,
    );
  }
  if (unit === "%") return { share: number / 100 };
  const isDecimal = unit.length === 2;
  return { bytes: Math.round(number * (isDecimal ? 1000 : 1024) ** (exponents.indexOf(unit[0]!) + 1)) };
}

export function bytesOf(amount: ByteAmount, filesystemBytes: number): number {
  return "bytes" in amount ? amount.bytes : Math.floor(amount.share * filesystemBytes);
}
