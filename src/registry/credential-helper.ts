import { spawn } from "node:child_process";
import { SkimError } from "../base/errors.js";
import type { Credentials } from "./credentials.js";

/**
 * Runs `docker-credential-NAME get`: the host on standard input, JSON with Username and Secret on standard output. Failures are told
 * on standard output too, with exit code 1. Source: github.com/docker/docker-credential-helpers.
 */

/** Helpers of cloud providers make a few HTTP requests; a helper that asks a person must not hang a mount. */
const helperTimeoutMs = 30_000;
/** Far more than any token. */
const helperOutputBytesMax = 1024 * 1024;

/**
 * The credentials that the helper `name` has for `host`, undefined where it has none.
 * Throws AUTH_FAILED where the helper is missing, fails, hangs or answers nonsense.
 */
export async function askCredentialHelper(
  name: string,
  host: string,
  environment: NodeJS.ProcessEnv,
  signal?: AbortSignal,
): Promise<Credentials | undefined> {
  if (!/^[A-Za-z0-9._-]+$/.test(name)) {
    throw new SkimError("AUTH_FAILED", `credential helper ${JSON.stringify(name)}: not a name of a program`);
  }
  const program = `docker-credential-${name}`;
  const { exitCode, output } = await runHelper(program, host, environment, signal);
  if (exitCode !== 0) {
    if (/credentials not found/i.test(output)) return undefined;
    // What it printed is not repeated: nothing says that it is free of secrets.
    throw new SkimError("AUTH_FAILED", `${program} get failed for ${host} with exit code ${exitCode}`);
  }
  const { Username: username, Secret: secret } = parseOutput(output);
  if (typeof username !== "string" || typeof secret !== "string") {
    throw new SkimError("AUTH_FAILED", `${program} get for ${host}: its answer has no Username and Secret`);
  }
  if (username === "" && secret === "") return undefined;
  if (username === "<token>") return { kind: "identityToken", token: secret };
  return { kind: "password", username, password: secret };
}

function parseOutput(output: string): { Username?: unknown; Secret?: unknown } {
  try {
    return (JSON.parse(output) as object | null) ?? {};
  } catch {
    return {};
  }
}

function runHelper(
  program: string,
  host: string,
  environment: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<{ exitCode: number; output: string }> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const child = spawn(program, ["get"], { env: environment, stdio: ["pipe", "pipe", "ignore"] });
    const pieces: Buffer[] = [];
    let length = 0;
    const settle = (finish: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      child.kill("SIGKILL");
      // A grandchild may hold the pipe open; nobody reads it any more.
      child.stdout.destroy();
      finish();
    };
    const fail = (found: string, cause?: unknown) =>
      settle(() => reject(new SkimError("AUTH_FAILED", `${program} ${found}`, { cause })));
    const onAbort = () => settle(() => reject(signal?.reason));
    const timer = setTimeout(() => fail(`get did not answer in ${helperTimeoutMs} ms`), helperTimeoutMs);
    signal?.addEventListener("abort", onAbort, { once: true });
    child.on("error", (cause: NodeJS.ErrnoException) =>
      fail(
        cause.code === "ENOENT"
          ? "is not on the PATH, but docker's config.json asks for it"
          : `cannot be started: ${cause.code}`,
        cause,
      ),
    );
    child.stdout.on("data", (piece: Buffer) => {
      length += piece.length;
      if (length > helperOutputBytesMax) fail(`get printed more than ${helperOutputBytesMax} bytes`);
      else pieces.push(piece);
    });
    child.on("close", (code) =>
      settle(() => resolve({ exitCode: code ?? -1, output: Buffer.concat(pieces).toString("utf8") })),
    );
    // A helper that does not read its input is no failure (EPIPE).
    child.stdin.on("error", () => {});
    child.stdin.end(host);
  });
}
