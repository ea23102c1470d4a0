/**
 * Benchmarks: figures for people, never a test. `npm run bench -- SCENARIO [options]` runs all that is compared in one run, on one machine, and
 * writes a table and JSON lines.
 */
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { UndoStack } from "../src/base/undo-stack.js";
import type { Figure } from "../src/bench/figure.js";
import { countsText, figureText } from "../src/bench/figure-table.js";
import type { Plot } from "../src/bench/plot.js";
import { reportPage } from "../src/bench/report-page.js";
import { daemonScenario } from "./daemon/scenario.js";
import { engineScenario } from "./engine/scenario.js";
import { networkProfiles } from "./network/profiles.js";
import { networkScenario } from "./network/scenario.js";
import { startScenario } from "./start/scenario.js";
import { startImages } from "./start/start-images.js";
import { describeMachine } from "./support/machine.js";
import { requirePrograms, run } from "./support/processes.js";
import { defaultResultFile, ResultFile } from "./support/result-file.js";
import type { Scenario } from "./support/scenario.js";
import { unpackScenario } from "./unpack/scenario.js";

const scenarios: Readonly<Record<string, Scenario>> = {
  daemon: daemonScenario,
  engine: engineScenario,
  network: networkScenario,
  start: startScenario,
  unpack: unpackScenario,
};

const usage = `usage: npm run bench -- ${Object.keys(scenarios).join("|")} [--rounds N] [--only FIGURE,...] [--image NAME,...] [--network NAME,...]
       [--out FILE] [--html FILE] [--work-dir DIR] [--image-dir DIR]

  --rounds N      measurements of each system, by turns; the median is shown (default 5)
  --only FIGURES  only these:
${Object.entries(scenarios)
  .map(([name, { figures }]) => `                  ${name}: ${figures.join(", ")}`)
  .join("\n")}
  --image NAMES   start: only ${startImages.map(({ name }) => name).join(", ")} (default: all)
  --network NAMES start: only ${networkProfiles.map(({ name }) => name).join(", ")} (default: all)
  --out FILE      JSON lines (default: bench/results/SCENARIO-TIME.jsonl)
  --html FILE     a page with tables and plots, in one file
  --image-dir DIR where images that take minutes to make are kept (default .fixtures/bench)
  --work-dir DIR  where images, caches and mounts are made and removed again; on a disk (default /var/tmp)`;

const root = path.resolve(import.meta.dirname, "../..");

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
        image: { type: "string" },
        network: { type: "string" },
        out: { type: "string" },
        html: { type: "string" },
        "image-dir": { type: "string", default: path.join(root, ".fixtures/bench") },
        "work-dir": { type: "string", default: "/var/tmp" },
      },
    });
  } catch (error) {
    fail((error as Error).message);
  }
}

/** The names in a list of an option; undefined where it was not given. */
function named(option: string, list: string | undefined, known: readonly { readonly name: string }[]) {
  const names = list?.split(",");
  for (const name of names ?? [])
    if (!known.some((one) => one.name === name))
      fail(`--${option} ${name}: there are ${known.map((one) => one.name).join(", ")}`);
  return names;
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
const images = named("image", values.image, startImages);
const networks = named("network", values.network, networkProfiles);
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
const report = { figures: [] as Figure[], plots: [] as Plot[] };
const undo = new UndoStack();
try {
  const say = (text: string) => console.error(`bench: ${text}`);
  const opened = await scenario.open({
    workDir,
    imageDir: path.resolve(values["image-dir"]),
    rounds,
    images,
    networks,
    signal,
    say,
  });
  undo.defer(() => opened.close());
  for (const name of wanted) {
    console.error(`bench: measuring ${name}`);
    const measured = opened.measure(name);
    // What is measured piece by piece is shown piece by piece.
    for await (const part of Symbol.asyncIterator in measured ? measured : [measured]) {
      for (const figure of part.figures) {
        results.addFigure(figure);
        console.log(figureText(figure));
      }
      for (const table of part.counts ?? []) {
        results.addCounts(table);
        console.log(countsText(table));
      }
      report.figures.push(...part.figures);
      report.plots.push(...(part.plots ?? []));
    }
  }
  console.log(`JSON lines: ${results.file}`);
} catch (error) {
  console.error(signal.aborted ? `bench: ${(signal.reason as Error).message}` : error);
  process.exitCode = 1;
} finally {
  // Also of a run that was ended early: with what it has measured.
  if (values.html) {
    const facts = { ...machine, rounds, measured: new Date().toISOString().slice(0, 10) };
    const page = reportPage({ title: `skim: ${scenarioName}`, facts, text: scenario.method, ...report });
    await writeFile(values.html, page);
    console.log(`report: ${values.html}`);
  }
  await undo.unwind();
  // Everything that was mounted has been unmounted by whoever mounted it; what could not be must not be deleted into.
  await run("rm", ["-rf", "--one-file-system", workDir]).catch((error: Error) => {
    console.error(`bench: ${workDir} is left: ${error.message}`);
  });
}
