/** Starts a holder: a process that belongs to nobody, and lives on when whoever started it dies. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import path from "node:path";
import { SkimError } from "../base/errors.js";

/** It takes 1 ms. On a machine that can do nothing for so long, nothing else will work either. */
const startTimeoutMs = 10_000;

/**
 * Resolves when a holder listens in `runDir`: the one that was started, or another one that was there already (native/holder/main.cc). Throws
 * ENVIRONMENT where it cannot be started.
 */
export async function startHolder(program: string, runDir: string, logFile: string): Promise<void> {
  const log = openSync(logFile, "a", 0o600);
  try {
    // Nothing of our environment: it outlives us, and whom it starts gets the environment that a server names.
    const child = spawn(program, [path.resolve(runDir)], {
      detached: true,
      cwd: "/",
      env: {},
      stdio: ["ignore", "pipe", log],
    });
    child.unref();
    await untilReady(child, runDir, logFile);
  } finally {
    closeSync(log);
  }
}

async function untilReady(child: ChildProcess, runDir: string, logFile: string): Promise<void> {
  const output = child.stdout!;
  await new Promise<void>((resolve, reject) => {
    const fail = (how: string, cause?: unknown) =>
      reject(
        new SkimError("ENVIRONMENT", `the holder for ${runDir} cannot be started: ${how}; see ${logFile}`, {
          cause,
        }),
      );
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      fail(`it has not begun in ${startTimeoutMs / 1000} s`);
    }, startTimeoutMs);
    let said = "";
    output.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (said.includes("ready\n")) resolve();
    });
    child.once("error", (cause) => fail("it cannot be executed", cause));
    child.once("close", (code, signal) => fail(`it has ended with ${signal ?? code}`));
    const stop = () => clearTimeout(timer);
    child.once("close", stop).once("error", stop);
    output.once("data", stop);
  }).finally(() => output.destroy());
}
