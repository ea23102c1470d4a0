/**
 * The process that becomes a mount server, before it knows what to serve. It takes as long to come up as the command that wants it, so commands that are
 * going to mount start it before they load themselves (early-start.ts), and both come up side by side. So this imports nothing but node.
 */
import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";

/** Where credentials and certificates are, for a process that works in another directory. */
const pathVariables = [
  "SKIM_CONFIG",
  "DOCKER_CONFIG",
  "REGISTRY_AUTH_FILE",
  "NODE_EXTRA_CA_CERTS",
  "SSL_CERT_FILE",
];

/** Threads of libuv's pool: writes to the cache, inflating ahead of need and filling take five, the rest is for who waits. */
const poolThreads = 8;

/**
 * Of glibc's malloc, for a process that fills tens of megabytes within half a second: it asks for pages of 2 MiB, of which a virtual machine brings in one for the price of a few
 * small ones, and its threads share two heaps. Measured: an eighth of a cold start, for 6 MB of memory later on. Elsewhere (musl, no huge pages) it has no effect.
 */
const mallocTunables = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2";

let waiting: ChildProcess | undefined;

/** Starts a process that waits for its launch message, and ends with this one if it gets none. */
export function startServerProcess(): void {
  waiting = spawnServer();
  // Whoever takes it is told what has become of it.
  waiting.on("error", () => {});
  waiting.unref();
  waiting.channel?.unref();
}

/** What a mount server runs: the bundle, also when this file itself runs from src/ or dist/, for all three lie two directories below the package. */
export const serverProgram = path.resolve(import.meta.dirname, "../../dist/bin/mount-server.js");

/** The process that is waiting, else a new one. */
export function takeServerProcess(): ChildProcess {
  const child = waiting;
  waiting = undefined;
  if (!child?.connected || child.exitCode !== null || child.signalCode !== null) return spawnServer();
  child.ref();
  child.channel?.ref();
  return child;
}

function spawnServer(): ChildProcess {
  // A session of its own: a terminal's Ctrl-C must not reach it. cwd is not kept: a server in a directory would make it busy. Until it has its
  // log, it complains where we do.
  return spawn(process.execPath, [serverProgram], {
    detached: true,
    cwd: "/",
    env: serverEnvironment(),
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
}

function serverEnvironment(): NodeJS.ProcessEnv {
  const { GLIBC_TUNABLES: tunables } = process.env;
  const environment: NodeJS.ProcessEnv = {
    UV_THREADPOOL_SIZE: String(poolThreads),
    ...process.env,
    // Of two settings of one tunable the last one counts.
    GLIBC_TUNABLES: tunables ? `${mallocTunables}:${tunables}` : mallocTunables,
  };
  for (const name of pathVariables) {
    const given = environment[name];
    if (given) environment[name] = path.resolve(given);
  }
  return environment;
}
