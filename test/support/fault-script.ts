import type { IncomingHttpHeaders, ServerResponse } from "node:http";
import type { Socket } from "node:net";

/**
 * Which requests of a ScriptedServer go wrong, and how: "the third request for a blob", "every request with a Range", "each with
 * a chance of one in four". What goes wrong is a Fault (network-faults.ts).
 */

export const requestKinds = ["version", "manifest", "blob", "token", "storage", "other"] as const;
export type RequestKind = (typeof requestKinds)[number];

export interface SeenRequest {
  readonly kind: RequestKind;
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** What a server would answer if nothing were wrong. */
export interface FakeAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: Buffer;
}

export interface Exchange {
  readonly seen: SeenRequest;
  readonly response: ServerResponse;
  readonly socket: Socket;
  /** Made when it is first asked for: a token, say, is given out only then. */
  readonly answer: FakeAnswer;
  /** Answers as if nothing were wrong. */
  next(): void;
}

/** Answers a request in place of the server. */
export type Fault = (exchange: Exchange) => void;

export interface FaultRule {
  /** Requests that it is for. */
  readonly on: RequestKind | RegExp | ((seen: SeenRequest) => boolean);
  readonly fault: Fault;
  /** Of those requests the first that fails, from 1, counted since the rule is there. Default 1. */
  readonly first?: number;
  /** How many fail. Default 1; Infinity: until the script is cleared. */
  readonly times?: number;
}

export class FaultScript {
  #rules: Array<{ rule: FaultRule; met: number }> = [];

  /** Rules are asked in the order they were added; each counts only requests that no earlier one has taken. */
  add(...rules: FaultRule[]): void {
    for (const rule of rules) this.#rules.push({ rule, met: 0 });
  }

  clear(): void {
    this.#rules = [];
  }

  faultFor(seen: SeenRequest): Fault | undefined {
    for (const entry of this.#rules) {
      const { on, first = 1, times = 1, fault } = entry.rule;
      if (entry.met >= first - 1 + times || !isMet(on, seen)) continue;
      entry.met++;
      if (entry.met >= first) return fault;
    }
    return undefined;
  }
}

function isMet(on: FaultRule["on"], seen: SeenRequest): boolean {
  if (typeof on === "string") return seen.kind === on;
  return on instanceof RegExp ? on.test(seen.path) : on(seen);
}

export function kindOf(path: string): RequestKind {
  if (path === "/v2/" || path === "/v2") return "version";
  if (path === "/token") return "token";
  if (path.startsWith("/store/")) return "storage";
  const kind = /^\/v2\/.+\/(manifest|blob)s\/[^/]+$/.exec(path)?.[1];
  return kind === "manifest" || kind === "blob" ? kind : "other";
}
