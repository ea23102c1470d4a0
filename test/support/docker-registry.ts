import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";

/** One request that Debian's docker-registry answered, from its access log. */
export interface LoggedRequest {
  readonly method: string;
  readonly uri: string;
  readonly status: number;
  readonly bytes: number;
}

export interface DockerRegistry {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  /** Requests answered since the last call, once the log is written up to a request of our own. */
  takeRequests(): Promise<LoggedRequest[]>;
  stop(): Promise<void>;
  /** Starts again on the same port. */
  restart(): Promise<void>;
}

/** Debian's `docker-registry` (the CNCF distribution registry) on a port of the kernel's choosing, its storage in `dir`. */
export async function startDockerRegistry(dir: string): Promise<DockerRegistry> {
  const requests: LoggedRequest[] = [];
  let waitingFor: { uri: string; seen: () => void } | undefined;
  let child: ChildProcess;
  let address = "127.0.0.1:0";

  const start = async () => {
    const storage = path.join(dir, "registry");
    await mkdir(storage, { recursive: true });
    const config = path.join(dir, "registry.yml");
    await writeFile(
      config,
      `version: 0.1\nlog: {level: info, formatter: json, accesslog: {disabled: false}}\nstorage: {filesystem: {rootdirectory: ${JSON.stringify(storage)}}, redirect: {disable: true}}\nhttp: {addr: "${address}"}\n`,
    );
    child = spawn("docker-registry", ["serve", config], { stdio: ["ignore", "pipe", "pipe"] });
    await new Promise<void>((resolve, reject) => {
      const onLine = (line: string) => {
        const listening = /listening on (127\.0\.0\.1:\d+)/.exec(line);
        if (listening) {
          address = listening[1]!;
          resolve();
        }
        const access = /^\S+ - \S* \[[^\]]*\] "(\S+) (\S+) [^"]*" (\d+) (\d+)/.exec(line);
        if (!access) return;
        const [, method, uri, status, bytes] = access as unknown as [string, string, string, string, string];
        if (waitingFor && uri === waitingFor.uri) return waitingFor.seen();
        requests.push({ method, uri, status: Number(status), bytes: Number(bytes) });
      };
      for (const stream of [child.stdout!, child.stderr!])
        createInterface({ input: stream }).on("line", onLine);
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`docker-registry ended with ${code}`)));
    });
  };
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  };
  await start();

  let marks = 0;
  return {
    host: address,
    takeRequests: async () => {
      // The log is written after the answer: a request that only marks the place comes out behind all the others.
      const uri = `/v2/mark/tags/list?n=${++marks}`;
      const seen = new Promise<void>((resolve) => {
        waitingFor = { uri, seen: resolve };
      });
      await (await fetch(`http://${address}${uri}`)).arrayBuffer();
      await seen;
      return requests.splice(0);
    },
    stop,
    restart: start,
  };
}
