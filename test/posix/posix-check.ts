import type { EngineName } from "../support/engines.js";
import { look } from "../support/look.js";

/** What all filesystems that hold the tree of posix-tree.ts must have in common. */
export interface PosixCheck {
  readonly claim: string;
  /** Engines that do not, with the reason; the check must fail there, so that a reason that has gone is noticed. */
  readonly exceptions?: Partial<Record<EngineName, string>>;
  /** Looks at the tree at `root`, from other processes only; rejects where the claim does not hold. */
  holds(root: string): Promise<void>;
}

/** A check that is a Python program (posix-calls.py says what it may use), and what is expected of the value that it tells. */
export function check<Told>(
  claim: string,
  source: string,
  expectations: (told: Told) => void,
  options: { args?: readonly unknown[]; exceptions?: Partial<Record<EngineName, string>> } = {},
): PosixCheck {
  return {
    claim,
    ...(options.exceptions ? { exceptions: options.exceptions } : {}),
    holds: async (root) => expectations(await look<Told>(source, root, ...(options.args ?? []))),
  };
}
