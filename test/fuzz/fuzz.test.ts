/**
 * SKIM_TEST_SEED sets the seed (the same for the same steps), SKIM_FUZZ_SECONDS how long all of this may take, SKIM_FUZZ_STEP the one step that is
 * made instead.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { sessionCounterNames } from "../../src/native/binding.js";
import { buildProgram, type FuzzerProgram, runFuzzer } from "./run-fuzzer.js";

const seed = Number(process.env.SKIM_TEST_SEED ?? Date.now() % 2 ** 31);
const secondsInAll = Number(process.env.SKIM_FUZZ_SECONDS ?? 10);
const onlyStep = process.env.SKIM_FUZZ_STEP;

let program: FuzzerProgram;
beforeAll(async () => {
  program = await buildProgram();
});
afterAll(async () => {
  await program?.[Symbol.asyncDispose]();
});

/** `ends`: a fuzzer is worth something only if it reaches all of them. */
interface Claim {
  readonly fuzzer: string;
  readonly share: number;
  readonly stepsMin: number;
  readonly ends: readonly string[];
}

const claims: ReadonlyArray<readonly [title: string, claim: Claim]> = [
  [
    "a mutated layer is refused, or scanned to spans that decode to what was scanned",
    { fuzzer: "scanner", share: 0.15, stepsMin: 200, ends: ["LAYER_CORRUPT", "scanned"] },
  ],
  [
    "mutated records, windows and bytes give an error or the right bytes",
    { fuzzer: "decoder", share: 0.15, stepsMin: 400, ends: ["SPAN_CORRUPT", "SPAN_DIGEST", "decoded"] },
  ],
  [
    "a mutated archive is refused, or can be walked to its end",
    { fuzzer: "archive", share: 0.1, stepsMin: 300, ends: ["ARCHIVE_DAMAGED", "walked"] },
  ],
  [
    "each FUSE request gets one reply, whatever it is and whatever the tree is made of",
    {
      fuzzer: "fuse",
      share: 0.6,
      stepsMin: 200,
      ends: ["archive", "mutated", "nonsense", ...sessionCounterNames],
    },
  ],
];

it.each(claims)(
  `%s (seed ${seed})`,
  async (_title, { fuzzer, share, stepsMin, ends }) => {
    if (onlyStep !== undefined) {
      await runFuzzer(program, { fuzzer, seed, seconds: 0, stepsMin: 1, firstStep: Number(onlyStep) });
      return;
    }
    const { steps, outcomes } = await runFuzzer(program, {
      fuzzer,
      seed,
      seconds: secondsInAll * share,
      stepsMin,
    });
    console.log(`fuzzer ${fuzzer}, seed ${seed}: ${steps} steps, ${JSON.stringify(outcomes)}`);
    for (const end of ends) expect(outcomes[end] ?? 0, end).toBeGreaterThan(0);
  },
  600_000,
);
