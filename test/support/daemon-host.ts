import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";
import path from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { afterAll } from "vitest";
import { identifyProcess, type ProcessIdentity, processEnded } from "../../src/base/process-identity.js";
import { DaemonClient } from "../../src/control/daemon-client.js";
import { cliFile, makeSkimHost, type SkimHost } from "./skim-cli.js";

/** Nothing here takes a hundredth of it; what takes so long will not come. */
const patienceMs = 60_000;
const lookAgainMs = 10;

/** Resolves to the first answer that is neither undefined nor false. What is waited for belongs to other processes, which tell nobody. */
export async function eventually<T>(what: string, look: () => Promise<T> | T): Promise<NonNullable<T>> {
  const endsAt = performance.now() + patienceMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found;
    if (performance.now() > endsAt) throw new Error(`it did not come to pass that ${what}`);
    await pause(lookAgainMs);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** A process of this host's: its directories stand in its arguments or its environment. */
export interface HostProcess extends ProcessIdentity {
  readonly args: readonly string[];
}

/** `skim daemon` with directories of its own, and what belongs to it. Ended after the test file, whatever state it is in. */
export class DaemonHost {
  readonly skim: SkimHost;
  readonly client: DaemonClient;
  /** Lines that daemons started by `start` have written to standard error. */
  readonly lines: string[] = [];

  private constructor(skim: SkimHost, client: DaemonClient) {
    this.skim = skim;
    this.client = client;
  }

  static async make(): Promise<DaemonHost> {
    const skim = await makeSkimHost();
    const host = new DaemonHost(skim, DaemonClient.at(skim.runDir));
    hosts.push(host);
    return host;
  }

  /** Resolves when the daemon takes requests. Throws with its output where it ends before. `cli`: of another build. */
  async start(
    args: readonly string[] = [],
    env: NodeJS.ProcessEnv = {},
    cli = cliFile,
  ): Promise<ChildProcess> {
    const child = this.spawn(args, env, cli);
    const ended = once(child, "close").then(([code, signal]) => {
      throw new Error(`skim daemon ended with ${signal ?? code}\n${this.lines.slice(-20).join("\n")}`);
    });
    ended.catch(() => {});
    await Promise.race([
      ended,
      eventually("the daemon is ready", async () => {
        const health = await this.health();
        return health?.pid === child.pid && (await this.client.ready()).ready;
      }),
    ]);
    return child;
  }

  spawn(args: readonly string[] = [], env: NodeJS.ProcessEnv = {}, cli = cliFile): ChildProcess {
    const child = spawn(process.execPath, [cli, "daemon", ...args], {
      env: { ...this.skim.env, ...env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    createInterface({ input: child.stderr! }).on("line", (line) => this.lines.push(line));
    return child;
  }

  /** Undefined where nobody answers. */
  async health() {
    return await this.client.health().catch(() => undefined);
  }

  /** One request as anybody can send it, without the client's repetitions. Resolves to the answer's status and body, parsed where it is JSON. */
  async ask(
    method: string,
    url: string,
    body?: string | Buffer | object,
    headers: Record<string, string | number> = {},
  ): Promise<{ status: number; headers: IncomingHttpHeaders; body: Record<string, unknown> }> {
    const content =
      body === undefined || typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const sent = request({
      socketPath: path.join(this.skim.runDir, "daemon.sock"),
      ...{ method, path: url, agent: false },
      headers: { ...(content === undefined ? {} : { "content-type": "application/json" }), ...headers },
    });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      sent.once("response", resolve);
      sent.on("error", reject);
    });
    sent.end(content);
    const answer = await answered;
    const said = await text(answer);
    return {
      status: answer.statusCode!,
      headers: answer.headers,
      body: /^[[{]/.test(said) ? JSON.parse(said) : { said },
    };
  }

  /** Of the server that answers. */
  async pid(): Promise<number> {
    return await eventually("a server answers", async () => (await this.health())?.pid);
  }

  /** SIGKILL to the server that answers. Resolves to its pid when it is gone. */
  async killServer(): Promise<number> {
    const pid = await this.pid();
    await killAndWait(pid);
    return pid;
  }

  /** Resolves to the pid of a server that is not `before`, when it takes requests. */
  async nextServer(before: number): Promise<number> {
    return await eventually(`another server than ${before} is ready`, async () => {
      const health = await this.health();
      if (!health || health.pid === before) return undefined;
      const isReady = await this.client.ready().catch(() => ({ ready: false }));
      return isReady.ready ? health.pid : undefined;
    });
  }

  /** SIGKILL to whoever keeps descriptors, and then to whoever serves. */
  async killEverybody(): Promise<void> {
    const all = [...this.holders(), ...this.servers()];
    for (const { pid } of all) signal(pid, "SIGKILL");
    await Promise.all(all.map((each) => processEnded(each, patienceMs)));
    // One that was just being started.
    if (this.servers().length > 0) await this.killEverybody();
  }

  holders(): HostProcess[] {
    return this.processes().filter(({ args }) => path.basename(args[0] ?? "") === "skim-holder");
  }

  servers(): HostProcess[] {
    return this.processes().filter(
      ({ args }) => args.includes("daemon") && args.some((arg) => arg === cliFile),
    );
  }

  /** All that belong to this host, but this process and what tests have started in containers. */
  processes(): HostProcess[] {
    return processesNaming(this.skim.runDir);
  }

  /** What is there though nothing should be: mounts, directories, records, processes. */
  async leftovers(): Promise<string[]> {
    return [
      ...(await this.skim.leftovers()),
      ...this.processes().map(({ pid, args }) => `process ${pid} ${args.join(" ")}`),
    ];
  }

  /** Unmounts everything and ends the daemon. */
  async shutdown(force = false): Promise<void> {
    const processes = [...this.servers(), ...this.holders()];
    await this.client.shutdown({ force });
    for (const each of processes)
      if (!(await processEnded(each, patienceMs))) throw new Error(`process ${each.pid} has not ended`);
  }

  async end(): Promise<void> {
    const isDone =
      (await this.health()) !== undefined &&
      (await this.shutdown(true).then(
        () => true,
        () => false,
      ));
    if (!isDone && this.processes().length > 0) {
      await this.killEverybody();
      for (const { pid } of this.processes()) signal(pid, "SIGKILL");
    }
    // What is dead is cleaned up without a daemon.
    if (existsSync(this.skim.runDir)) await this.skim.run(["gc", "--yes", "--all"]);
  }
}

const hosts: DaemonHost[] = [];

afterAll(async () => {
  for (const host of hosts) await host.end();
});

export async function killAndWait(pid: number, name: NodeJS.Signals = "SIGKILL"): Promise<void> {
  const identity = identifyProcess(pid);
  signal(pid, name);
  if (identity && !(await processEnded(identity, patienceMs))) throw new Error(`process ${pid} did not end`);
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // Gone already.
  }
}

function processesNaming(directory: string): HostProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      const pid = Number(name);
      const args = nulText(`/proc/${pid}/cmdline`);
      const isOurs =
        args.some((arg) => arg.includes(directory)) ||
        nulText(`/proc/${pid}/environ`).some((variable) => variable.endsWith(`=${directory}`));
      const identity = isOurs ? identifyProcess(pid) : undefined;
      return identity ? [{ ...identity, args }] : [];
    });
}

function nulText(file: string): string[] {
  try {
    return readFileSync(file, "latin1").split("\0").filter(Boolean);
  } catch {
    return [];
  }
}
