import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, createServer as createPortServer, type Server, type Socket } from "node:net";
import {
  type FakeAnswer,
  FaultScript,
  kindOf,
  type RequestKind,
  requestKinds,
  type SeenRequest,
} from "./fault-script.js";

/**
 * A real server on loopback that answers as it should until its script says otherwise, and remembers every request. With a certificate it
 * speaks TLS, and answers plain requests as Go's servers do.
 */
export interface ServerStart {
  readonly certificate?: { readonly key: string; readonly cert: string } | undefined;
}

const tlsHandshake = 0x16;
const listenAttemptsMax = 250;

export abstract class ScriptedServer {
  readonly seen: SeenRequest[] = [];
  readonly script = new FaultScript();
  /** Requests so far. */
  readonly counters = Object.fromEntries(requestKinds.map((kind) => [kind, 0])) as Record<
    RequestKind,
    number
  >;
  /** Connections accepted so far. */
  connections = 0;
  readonly #sockets = new Set<Socket>();
  #certificate: ServerStart["certificate"];
  #front: Server | undefined;
  #port = 0;

  protected abstract answerTo(seen: SeenRequest): FakeAnswer;

  get host(): string {
    return `127.0.0.1:${this.#port}`;
  }

  get url(): string {
    return `${this.#certificate ? "https" : "http"}://${this.host}`;
  }

  /** Begins to listen, on the port it had before if it had one. */
  async listen(start: ServerStart = {}): Promise<void> {
    const { certificate } = start;
    const answer = (request: IncomingMessage, response: ServerResponse) =>
      void this.#answer(request, response);
    const server = certificate ? createTlsServer(certificate, answer) : createServer(answer);
    const front = createPortServer((socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
      if (certificate) socket.once("data", (first: Buffer) => openTls(server, socket, first));
      else server.emit("connection", socket);
    });
    await listenOn(front, this.#port);
    this.#certificate = certificate;
    this.#front = front;
    this.#port = (front.address() as AddressInfo).port;
  }

  /** Stops listening and ends every connection; `listen` begins again. */
  async close(): Promise<void> {
    const front = this.#front;
    this.#front = undefined;
    await new Promise<void>((resolve) => {
      if (!front) return resolve();
      front.close(() => resolve());
      for (const socket of this.#sockets) socket.destroy();
    });
  }

  /** The next `times` requests whose path matches are answered by `fault`; faults queue up. */
  fail(path: RegExp, fault: Parameters<FaultScript["add"]>[0]["fault"], times = 1): void {
    this.script.add({ on: path, fault, times });
  }

  requestsTo(path: RegExp): SeenRequest[] {
    return this.seen.filter((request) => path.test(request.path));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.url);
    const body: Buffer[] = [];
    for await (const piece of request) body.push(piece);
    const seen: SeenRequest = {
      kind: kindOf(url.pathname),
      method: request.method ?? "",
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body: Buffer.concat(body).toString(),
    };
    this.seen.push(seen);
    this.counters[seen.kind]++;
    let made: FakeAnswer | undefined;
    const answer = () => {
      made ??= this.answerTo(seen);
      return made;
    };
    const next = () => sendAnswer(response, answer());
    const fault = this.script.faultFor(seen);
    if (!fault) return next();
    fault({
      seen,
      response,
      socket: request.socket,
      next,
      get answer() {
        return answer();
      },
    });
  }
}

/** The port that a server has had may be the other end of somebody's connection just now: the kernel gives both out of one range. */
async function listenOn(server: Server, port: number): Promise<void> {
  for (let attempts = 1; ; attempts++) {
    const failure = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      server.once("error", resolve);
      server.listen(port, "127.0.0.1", () => resolve(undefined));
    });
    server.removeAllListeners("error");
    if (!failure) return;
    if (failure.code !== "EADDRINUSE" || attempts === listenAttemptsMax) throw failure;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function openTls(server: Server, socket: Socket, first: Buffer): void {
  if (first[0] !== tlsHandshake) {
    socket.end("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
    return;
  }
  socket.pause();
  socket.unshift(first);
  server.emit("connection", socket);
}

/** Without a Content-Length the body is sent in chunks. */
export function sendAnswer(response: ServerResponse, answer: FakeAnswer): void {
  response.writeHead(answer.status, answer.headers).end(answer.body);
}
