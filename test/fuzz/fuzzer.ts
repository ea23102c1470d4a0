/**
 * What a fuzzer is. Making an input and running it are two things, so that an input can be kept, looked at, and run again without what made it.
 */
import type { NativeBinding } from "../../src/native/binding.js";
import type { Corpus } from "./corpus.js";
import type { Random } from "./random.js";

export interface Fuzzer<Input = unknown> {
  /** What v8.serialize takes. Its bytes are not changed by `run`. */
  make(random: Random): Input;
  /** Resolves to words for what was reached, to be counted. Rejects where a claim does not hold. */
  run(input: Input): Promise<string | readonly string[]>;
  /** Says where a run stands that does not come to an end. */
  describe?(): string;
  /** Before the process ends: leaves things as no user should. */
  abandon?(): Promise<void>;
}

export type FuzzerMaker = (native: NativeBinding, corpus: Corpus) => Promise<Fuzzer>;

/** What a file in corpus/crashes holds, serialized by v8. */
export interface KeptInput {
  readonly fuzzer: string;
  readonly seed: number;
  readonly step: number;
  readonly input: unknown;
}

/** Bytes in memory of their own and of their size exactly, so that a read behind their end is a read behind an allocation. */
export function exact(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new ArrayBuffer(bytes.length));
  copy.set(bytes);
  return copy;
}

export function claim(condition: boolean, sentence: string): asserts condition {
  if (!condition) throw new Error(sentence);
}
