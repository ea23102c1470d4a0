/**
 * Benchmarks: figures for people, never a test. `npm run bench -- SCENARIO [options]` runs all that is compared in one run, on one machine, and
 * writes a table and JSON lines.
 */
import { mkdir, mkdtemp } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { BenchImages } from "./engine/images.js";
import { engineFigures, engineMethod, enginePrograms } from "./engine/scenario.js";
import { describeMachine } from "./support/machine.js";
import { requirePrograms, run } from "./support/processes.js";
import { defaultResultFile, ResultFile } from "./support/result-file.js";
import { countsText, figureText } from "./support/table.js";

const usage = `usage: npm run bench -- engine [--rounds N] [--only FIGURE,...] [--out FILE] [--work-dir DIR]

  --rounds N      measurements of each system, by turns; the median is shown (default 5)
  --only FIGURES  only these: ${Object.keys(engineFigures).join(", ")}
  --out FILE      JSON lines (default: bench/results/SCENARIO-TIME.jsonl)
  --work-dir DIR  where images, caches and mounts are made and removed again; on a disk (default /var/tmp)`;

function fail(message: string): never {
  console.error(`bench: ${message}\n\n${usage}`);
  process.exit(2);
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        rounds: { type: "string", default: "5" },
        only: { type: "string" },
        out: { type: "string" },
        "work-dir": { type: "string", default: "/var/tmp" },
      },
    });
  } catch (error) {
    fail((error as Error).message);
  }
}

const { values, positionals } = readArguments();
const [scenario] = positionals;
if (scenario !== "engine" || positionals.length !== 1) fail("name one scenario: engine");
const rounds = Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 1) fail("--rounds takes a number from 1 on");
const wanted = values.only?.split(",") ?? Object.keys(engineFigures);
for (const name of wanted) if (!Object.hasOwn(engineFigures, name)) fail(`there is no figure ${name}`);
requirePrograms(enginePrograms);

const interrupt = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const)
  process.on(name, () => interrupt.abort(new Error(`ended by ${name}`)));
const { signal } = interrupt;

await mkdir(values["work-dir"], { recursive: true });
const workDir = await mkdtemp(path.join(path.resolve(values["work-dir"]), "skim-bench-"));
const machine = describeMachine();
const results = new ResultFile(values.out ?? defaultResultFile(scenario), scenario, machine, { rounds });
console.log(
  `${Object.entries(machine)
    .map(([key, value]) => `${key} ${value}`)
    .join(", ")}\n\n${engineMethod}\n`,
);
try {
  const images = new BenchImages({ workDir, signal, say: (text) => console.error(`bench: ${text}`) });
  for (const name of wanted) {
    console.error(`bench: measuring ${name}`);
    const { figures, counts = [] } = await engineFigures[name]!({ images, workDir, rounds, signal });
    for (const figure of figures) {
      results.addFigure(figure);
      console.log(figureText(figure));
    }
    for (const table of counts) {
      results.addCounts(table);
      console.log(countsText(table));
    }
  }
  console.log(`JSON lines: ${results.file}`);
} catch (error) {
  console.error(signal.aborted ? `bench: ${(signal.reason as Error).message}` : error);
  process.exitCode = 1;
} finally {
  // Everything that was mounted has been unmounted by whoever mounted it; what could not be must not be deleted into.
  await run("rm", ["-rf", "--one-file-system", workDir]).catch((error: Error) => {
    console.error(`bench: ${workDir} is left: ${error.message}`);
  });
}
