/**
 * Benchmarks: figures for people, never a test. `npm run bench -- SCENARIO [options]` runs all that is compared in one run, on one machine, and
 * writes a table and JSON lines.
 */
import { mkdir, mkdtemp } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { UndoStack } from "../src/base/undo-stack.js";
import { engineScenario } from "./engine/scenario.js";
import { networkScenario } from "./network/scenario.js";
import { describeMachine } from "./support/machine.js";
import { requirePrograms, run } from "./support/processes.js";
import { defaultResultFile, ResultFile } from "./support/result-file.js";
import type { Scenario } from "./support/scenario.js";
import { countsText, figureText } from "./support/table.js";
import { unpackScenario } from "./unpack/scenario.js";

const scenarios: Readonly<Record<string, Scenario>> = {
  engine: engineScenario,
  network: networkScenario,
  unpack: unpackScenario,
};

const usage = `usage: npm run bench -- ${Object.keys(scenarios).join("|")} [--rounds N] [--only FIGURE,...] [--out FILE] [--work-dir DIR]

  --rounds N      measurements of each system, by turns; the median is shown (default 5)
  --only FIGURES  only these:
${Object.entries(scenarios)
  .map(([name, { figures }]) => `                  ${name}: ${figures.join(", ")}`)
  .join("\n")}
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
const [scenarioName = ""] = positionals;
if (!Object.hasOwn(scenarios, scenarioName) || positionals.length !== 1)
  fail(`name one scenario: ${Object.keys(scenarios).join(" or ")}`);
const scenario = scenarios[scenarioName]!;
const rounds = Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 1) fail("--rounds takes a number from 1 on");
const wanted = values.only?.split(",") ?? scenario.figures;
for (const name of wanted) if (!scenario.figures.includes(name)) fail(`there is no figure ${name}`);
requirePrograms(scenario.programs);

const interrupt = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const)
  process.on(name, () => interrupt.abort(new Error(`ended by ${name}`)));
const { signal } = interrupt;

await mkdir(values["work-dir"], { recursive: true });
const workDir = await mkdtemp(path.join(path.resolve(values["work-dir"]), "skim-bench-"));
const machine = describeMachine();
const results = new ResultFile(values.out ?? defaultResultFile(scenarioName), scenarioName, machine, {
  rounds,
});
console.log(
  `${Object.entries(machine)
    .map(([key, value]) => `${key} ${value}`)
    .join(", ")}\n\n${scenario.method}\n`,
);
const undo = new UndoStack();
try {
  const say = (text: string) => console.error(`bench: ${text}`);
  const opened = await scenario.open({ workDir, rounds, signal, say });
  undo.defer(() => opened.close());
  for (const name of wanted) {
    console.error(`bench: measuring ${name}`);
    const { figures, counts = [] } = await opened.measure(name);
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
  await undo.unwind();
  // Everything that was mounted has been unmounted by whoever mounted it; what could not be must not be deleted into.
  await run("rm", ["-rf", "--one-file-system", workDir]).catch((error: Error) => {
    console.error(`bench: ${workDir} is left: ${error.message}`);
  });
}
