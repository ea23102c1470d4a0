/**
 * The program in which a fuzzer runs: with the sanitizers, and where a fault takes nobody along.
 *
 * Usage: node fuzz-child.js JSON. Each input is written to `inputFile` before it is run, so that it is there whatever becomes of this process. Prints a
 * line of JSON, { steps, outcomes }, and ends with 0; or prints an error, and is killed by its own hand: a thread that still waits in
 * read(2) would keep exit() for ever.
 */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { deserialize, serialize } from "node:v8";
import { loadAddon } from "../../src/native/load.js";
import { archiveFuzzer } from "./archive-fuzzer.js";
import { readCorpus } from "./corpus.js";
import { fuseFuzzer } from "./fuse-fuzzer.js";
import type { FuzzerMaker, KeptInput } from "./fuzzer.js";
import { decoderFuzzer, scannerFuzzer } from "./layer-fuzzers.js";
import { Random } from "./random.js";

export interface ChildOptions {
  readonly fuzzer: string;
  readonly addon: string;
  readonly corpusDir: string;
  readonly seed: number;
  readonly firstStep: number;
  /** As many steps are made, however long they take; and then more until `seconds` have passed. */
  readonly stepsMin: number;
  readonly seconds: number;
  readonly inputFile: string;
  /** Files of corpus/crashes, run as they are before anything else. */
  readonly kept: readonly string[];
}

export interface ChildResult {
  readonly steps: number;
  readonly outcomes: Record<string, number>;
}

const fuzzers: Record<string, FuzzerMaker> = {
  scanner: scannerFuzzer as FuzzerMaker,
  decoder: decoderFuzzer as FuzzerMaker,
  archive: archiveFuzzer as FuzzerMaker,
  fuse: fuseFuzzer as FuzzerMaker,
};

/** A step that takes longer stands still: the slowest take a fraction of a second. */
const stepMsMax = 60_000;

const options = JSON.parse(process.argv[2]!) as ChildOptions;
const native = loadAddon(options.addon);
const fuzzer = await fuzzers[options.fuzzer]!(native, readCorpus(options.corpusDir));
const inputFd = openSync(options.inputFile, "w");
const outcomes: Record<string, number> = {};

/** Runs what `get` gives, and kills this process where it fails. */
async function runInput(what: string, get: () => KeptInput): Promise<void> {
  ftruncateSync(inputFd, 0);
  try {
    await runKept(get());
  } catch (error) {
    writeSync(2, `${what}: ${error instanceof Error ? error.stack : error}\n`);
    if (error instanceof Error && error.cause instanceof Error) writeSync(2, `${error.cause.stack}\n`);
    process.kill(process.pid, "SIGKILL");
    await new Promise(() => {});
  }
}

async function runKept(kept: KeptInput): Promise<void> {
  const bytes = serialize(kept);
  writeSync(inputFd, bytes, 0, bytes.length, 0);
  let timer: NodeJS.Timeout | undefined;
  const standstill = new Promise<never>((_, reject) => {
    const sentence = () => `it stands still; ${fuzzer.describe?.() ?? ""}`;
    timer = setTimeout(() => reject(new Error(sentence())), stepMsMax);
  });
  try {
    // Deserialized, as when the file is run again.
    const { input } = deserialize(bytes) as KeptInput;
    const reached = await Promise.race([fuzzer.run(input), standstill]);
    for (const word of [reached].flat() as string[]) outcomes[word] = (outcomes[word] ?? 0) + 1;
  } finally {
    clearTimeout(timer);
  }
}

for (const file of options.kept) {
  const kept = deserialize(readFileSync(file)) as KeptInput;
  if (kept.fuzzer === options.fuzzer) await runInput(file, () => kept);
}
const { fuzzer: name, seed } = options;
const end = Date.now() + options.seconds * 1000;
let steps = 0;
while (steps < options.stepsMin || Date.now() < end) {
  const step = options.firstStep + steps;
  const input = () => fuzzer.make(Random.ofStep(seed, name, step));
  await runInput(`step ${step}`, () => ({ fuzzer: name, seed, step, input: input() }));
  steps++;
}
closeSync(inputFd);
await fuzzer.abandon?.();
const result: ChildResult = { steps, outcomes };
writeSync(1, `${JSON.stringify(result)}\n`);
process.exit(0);
