import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterAll } from "vitest";

const script = path.resolve(import.meta.dirname, "posix-calls.py");

interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

/** One interpreter a test file, started with the first question. */
let child: ChildProcess | undefined;
let questions = 0;
const waiting = new Map<number, (reply: Omit<Reply, "id">) => void>();

/**
 * What a Python program `tell`s, run in a process of its own: see posix-calls.py for the names it has. `args` go to it as JSON; the first
 * is `root`. For tests with many questions: thirty times faster than `python` of fuse-mount.ts. Programs run one after the other.
 */
export async function look<Result>(source: string, ...args: readonly unknown[]): Promise<Result> {
  child ??= startChild();
  const id = ++questions;
  const reply = await new Promise<Omit<Reply, "id">>((resolve) => {
    waiting.set(id, resolve);
    child!.stdin!.write(`${JSON.stringify({ id, source, args })}\n`);
  });
  if (reply.error !== undefined) throw new Error(reply.error);
  return reply.value as Result;
}

function startChild(): ChildProcess {
  const started = spawn("python3", [script], {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, LC_ALL: "C" },
  });
  let stderr = "";
  started.stderr.on("data", (bytes) => {
    stderr += bytes;
  });
  started.stdin.on("error", () => {});
  createInterface({ input: started.stdout }).on("line", (line) => {
    const { id, ...reply } = JSON.parse(line) as Reply;
    waiting.get(id)?.(reply);
    waiting.delete(id);
  });
  started.once("close", (code, signal) => {
    for (const resolve of waiting.values())
      resolve({ error: `python3 ended with ${signal ?? code}: ${stderr}` });
    waiting.clear();
    child = undefined;
  });
  return started;
}

afterAll(async () => {
  if (!child) return;
  const ended = new Promise((resolve) => child!.once("close", resolve));
  // The end of its input is the end of its loop.
  child.stdin!.end();
  await ended;
});
