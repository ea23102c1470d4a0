/**
 * How other processes talk to the server of a mount: a Unix socket, one JSON request a line, one JSON answer a line.
 *
 * `{"operation": "stats"}` answers what was served and fetched so far, `{"operation": "start"}` what its start is told by (start-report.ts). `{"operation": "shutdown", "force": false}` asks the server to unmount
 * and end; its answer comes first, and the connection closes when the process is gone, which is how a caller knows without polling.
 */
import { rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import {
  describeError,
  type ErrorCode,
  errorTable,
  isSkimError,
  SkimError,
  systemErrorCode,
} from "../base/errors.js";

export type ControlRequest =
  | { operation: "stats" }
  | { operation: "start" }
  | { operation: "shutdown"; force: boolean };
export type ControlAnswer = Record<string, unknown>;
export type ControlHandler = (request: ControlRequest) => Promise<ControlAnswer>;

/** A server that does not answer for this long is wedged: everything it is asked takes milliseconds. */
const answerTimeoutMs = 15_000;

/** A request line longer than this is not ours. */
const requestBytesMax = 4096;

export interface ControlServer {
  readonly listener: Server;
  /** Takes no more connections, and waits until every request that has come is answered: a process that ends sooner takes the answers along. */
  close(): Promise<void>;
}

/** Serves `handler` on `file` until closed. A stale socket file of the same name is replaced: the record's id is exclusive. */
export async function serveControlSocket(file: string, handler: ControlHandler): Promise<ControlServer> {
  await rm(file, { force: true });
  const unanswered = new Set<Promise<void>>();
  const server = createServer((socket) => answerRequests(socket, handler, unanswered));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ path: file }, resolve);
  }).catch((cause: unknown) => {
    throw new SkimError("LOCAL_IO", `cannot listen on ${file} (${file.length} characters of at most 107)`, {
      cause,
    });
  });
  // A connection that asks for nothing must not keep the process alive.
  server.unref();
  return {
    listener: server,
    close: async () => {
      server.close();
      while (unanswered.size > 0) await Promise.all(unanswered);
    },
  };
}

function answerRequests(socket: Socket, handler: ControlHandler, unanswered: Set<Promise<void>>): void {
  socket.on("error", () => socket.destroy());
  // Whoever asked for the shutdown keeps its connection until this process is gone, and must not keep the process.
  socket.unref();
  let pending = "";
  socket.setEncoding("utf8");
  socket.on("data", (text: string) => {
    pending += text;
    if (pending.length > requestBytesMax) return void socket.destroy();
    for (let end = pending.indexOf("\n"); end >= 0; end = pending.indexOf("\n")) {
      const line = pending.slice(0, end);
      pending = pending.slice(end + 1);
      const answered = answer(line, handler)
        .then((reply) => sent(socket, `${JSON.stringify(reply)}\n`))
        .finally(() => unanswered.delete(answered));
      unanswered.add(answered);
    }
  });
}

/** Resolves when the kernel has the text, or the one who asked has gone. */
function sent(socket: Socket, text: string): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) return resolve();
    socket.once("close", () => resolve());
    socket.write(text, () => resolve());
  });
}

async function answer(line: string, handler: ControlHandler): Promise<ControlAnswer> {
  try {
    const request = JSON.parse(line) as { operation?: unknown; force?: unknown };
    const { operation } = request;
    if (operation === "stats" || operation === "start") return await handler({ operation });
    if (request.operation === "shutdown")
      return await handler({ operation: "shutdown", force: request.force === true });
    return { error: `no operation ${JSON.stringify(request.operation)}`, code: "USAGE" };
  } catch (error) {
    return { error: describeError(error), code: isSkimError(error) ? error.code : "INTERNAL" };
  }
}

export interface ControlReply {
  readonly answer: ControlAnswer;
  /** Resolves when the server has closed the connection: for `shutdown`, when its process is gone. */
  readonly closed: Promise<void>;
  disconnect(): void;
}

/** Sends one request. Undefined where nobody listens (the server is gone) or answers (it is wedged). Throws what the server refused it with. */
export async function callControlSocket(
  file: string,
  request: ControlRequest,
  timeoutMs = answerTimeoutMs,
): Promise<ControlReply | undefined> {
  const socket = connect({ path: file });
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
  } catch (error) {
    socket.destroy();
    if (["ENOENT", "ECONNREFUSED"].includes(systemErrorCode(error) ?? "")) return undefined;
    throw new SkimError("LOCAL_IO", `cannot talk to the mount server on ${file}`, { cause: error });
  }
  socket.on("error", () => socket.destroy());
  const wedged = setTimeout(() => socket.destroy(), timeoutMs);
  const line = firstLine(socket, closed);
  socket.write(`${JSON.stringify(request)}\n`);
  const text = await line.finally(() => clearTimeout(wedged));
  if (text === undefined) return undefined;
  const answer = JSON.parse(text) as ControlAnswer;
  if (answer.error) {
    socket.destroy();
    const code =
      typeof answer.code === "string" && answer.code in errorTable ? (answer.code as ErrorCode) : "LOCAL_IO";
    throw new SkimError(code, String(answer.error));
  }
  return { answer, closed, disconnect: () => socket.destroy() };
}

/** Without its end; undefined where the connection ends, breaks or is destroyed before there is a whole one. The socket goes on flowing. */
async function firstLine(socket: Socket, closed: Promise<void>): Promise<string | undefined> {
  let text = "";
  socket.setEncoding("utf8");
  const whole = new Promise<void>((resolve) =>
    socket.on("data", (piece: string) => {
      if (text.includes("\n")) return;
      text += piece;
      if (text.includes("\n")) resolve();
    }),
  );
  await Promise.race([whole, closed]);
  const end = text.indexOf("\n");
  return end < 0 ? undefined : text.slice(0, end);
}
