/**
 * Starts fuzzers: bundles fuzz-child.ts, runs it on the sanitized addon, and keeps what a failure leaves behind.
 */
import { execFileSync, spawn } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
} from "node:fs";
import path from "node:path";
import { rolldown } from "rolldown";
import { corpusDir, filesIn } from "./corpus.js";
import type { ChildOptions, ChildResult } from "./fuzz-child.js";

const root = path.resolve(import.meta.dirname, "../..");
const failuresDir = path.join(import.meta.dirname, "failures");
const addon = path.join(root, "native/build/sanitized/skim.node");

/** A program that found nothing to say in so much time beyond its own is killed. */
const graceMs = 120_000;

export interface FuzzerProgram extends AsyncDisposable {
  readonly script: string;
  /** Removed with the program: for input files and logs. */
  readonly dir: string;
}

/**
 * Builds what is needed. Modules that look for files of the package expect to be two directories below its root (src/native/load.ts): so is the
 * program.
 */
export async function buildProgram(): Promise<FuzzerProgram> {
  execFileSync(process.execPath, [path.join(root, "scripts/build-sanitized.mjs")], { stdio: "inherit" });
  const parent = path.join(root, "build");
  mkdirSync(parent, { recursive: true });
  const dir = mkdtempSync(path.join(parent, "fuzz-"));
  const bundle = await rolldown({ input: path.join(import.meta.dirname, "fuzz-child.ts"), platform: "node" });
  await bundle.write({
    dir,
    format: "esm",
    entryFileNames: "[name].mjs",
    chunkFileNames: "[name].mjs",
    sourcemap: true,
  });
  await bundle.close();
  return {
    script: path.join(dir, "fuzz-child.mjs"),
    dir,
    async [Symbol.asyncDispose]() {
      rmSync(dir, { recursive: true, force: true });
      // Another run may have its program there.
      if (readdirSync(parent).length === 0) rmdirSync(parent);
    },
  };
}

export interface FuzzerRun {
  readonly fuzzer: string;
  readonly seed: number;
  readonly seconds: number;
  readonly stepsMin: number;
  readonly firstStep?: number;
}

/** Throws, with the seed, the step and a file with the input, where the program does not come to its end. */
export async function runFuzzer(program: FuzzerProgram, run: FuzzerRun): Promise<ChildResult> {
  const inputFile = path.join(program.dir, `${run.fuzzer}.input`);
  const options: ChildOptions = {
    ...run,
    firstStep: run.firstStep ?? 0,
    addon,
    corpusDir,
    inputFile,
    kept: filesIn(path.join(corpusDir, "crashes")),
  };
  const log = path.join(program.dir, `${run.fuzzer}.log`);
  const { stdout, ending } = await spawned(program.script, options, log);
  if (ending === "exit 0") return JSON.parse(stdout) as ChildResult;
  mkdirSync(failuresDir, { recursive: true });
  const kept = path.join(failuresDir, `${run.fuzzer}-${run.seed}-${Date.now()}.input`);
  if (existsSync(inputFile)) copyFileSync(inputFile, kept);
  // The sanitizers' reports come in the middle of what else was said.
  const said = reportIn(readFileSync(log, "utf8"));
  throw new Error(`fuzzer ${run.fuzzer}, seed ${run.seed}: ${ending}; the input is in ${kept}\n${said}`);
}

async function spawned(script: string, options: ChildOptions, log: string) {
  const libraries = ["libasan.so", "libubsan.so"].map((name) =>
    execFileSync("gcc", [`-print-file-name=${name}`], { encoding: "utf8" }).trim(),
  );
  const logFd = openSync(log, "w");
  const child = spawn(
    process.execPath,
    ["--expose-gc", "--enable-source-maps", script, JSON.stringify(options)],
    {
      env: {
        ...process.env,
        LD_PRELOAD: libraries.join(" "),
        // Of a program that was killed nothing is left either.
        TMPDIR: path.dirname(script),
        // node's own handlers and leaks are not ours; native/README.md, "Debugging".
        ASAN_OPTIONS: "detect_leaks=0:use_sigaltstack=0:allocator_may_return_null=1",
        UBSAN_OPTIONS: "print_stacktrace=1",
      },
      stdio: ["ignore", "pipe", logFd],
    },
  );
  closeSync(logFd);
  let stdout = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), options.seconds * 1000 + graceMs);
  const ending = await new Promise<string>((resolve, reject) => {
    child.once("error", reject).once("close", (code, signal) => resolve(signal ?? `exit ${code}`));
  });
  clearTimeout(timer);
  return { stdout, ending };
}

/** What matters of a log: from the first report of a sanitizer on, or else its end. */
function reportIn(log: string): string {
  const start = log.search(/^.*(ERROR: AddressSanitizer|runtime error:)/m);
  return start < 0 ? log.slice(-6000) : log.slice(start, start + 6000);
}
