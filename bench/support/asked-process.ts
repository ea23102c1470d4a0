/**
 * A process of the benchmark that answers requests by IPC: its parent's side (`AskedProcess`), and its own (`answerRequests`). It ends when its
 * parent does.
 */
import { type ChildProcess, fork } from "node:child_process";
import path from "node:path";
import { describeError } from "../../src/base/errors.js";

/** The longest request is to open an archive of half a million files: about two seconds. What takes much longer hangs. */
const answerTimeoutMs = 60_000;

/** What each method takes, and what it answers. */
export type Requests = object;

interface RequestMessage {
  readonly id: number;
  readonly method: string;
  readonly request: unknown;
}

interface AnswerMessage {
  readonly id: number;
  readonly answer?: unknown;
  readonly error?: string;
}

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

export class AskedProcess<Q extends Requests, A extends Record<keyof Q, unknown>> {
  /** In messages. */
  readonly name: string;
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #waiting = new Map<number, Waiting>();
  #requests = 0;

  /** Starts `program`, which lies beside the bundle that this file is part of. */
  constructor(name: string, program: string, args: readonly string[] = []) {
    this.name = name;
    // Detached: the Ctrl-C of a terminal must not reach it before what it serves has been taken down.
    this.#child = fork(path.join(import.meta.dirname, program), args, {
      detached: true,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.pid = this.#child.pid ?? 0;
    this.#exited = new Promise((resolve) => this.#child.once("exit", () => resolve()));
    this.#child.on("message", ({ id, answer, error }: AnswerMessage) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(answer);
      else waiting?.reject(new Error(`${name}: ${error}`));
    });
    void this.#exited.then(() => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`${name} has ended`));
    });
  }

  ask<M extends keyof Q & string>(method: M, request: Q[M]): Promise<A[M]> {
    const id = ++this.#requests;
    return new Promise((resolve, reject) => {
      const late = () => reject(new Error(`${this.name} does not answer to ${method}`));
      const timer = setTimeout(late, answerTimeoutMs);
      const settled = () => clearTimeout(timer);
      this.#waiting.set(id, {
        resolve: (answer) => {
          settled();
          resolve(answer as A[M]);
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      });
      this.#child.send({ id, method, request }, (error) => {
        if (error) this.#waiting.get(id)?.reject(error);
      });
    });
  }

  /** Lets the process end, which must keep nothing going by itself. */
  async disconnect(): Promise<void> {
    this.#child.disconnect();
    await this.#exited;
  }

  /** Ends the process as it stands. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }
}

/** In the process: answers with `methods` from now on. */
export function answerRequests<Q extends Requests, A extends Record<keyof Q, unknown>>(
  methods: {
    [M in keyof Q]: (request: Q[M]) => Promise<A[M]>;
  },
): void {
  const answer = async ({ id, method, request }: RequestMessage): Promise<AnswerMessage> => {
    try {
      const call = methods[method as keyof Q] as (request: unknown) => Promise<unknown>;
      return { id, answer: await call(request) };
    } catch (error) {
      return { id, error: describeError(error) };
    }
  };
  process.on("message", (message: RequestMessage) => {
    void answer(message).then((reply) => process.send?.(reply));
  });
  process.on("disconnect", () => process.exit(0));
}
