import type { Exchange, FakeAnswer, Fault, SeenRequest } from "./fault-script.js";
import { sendAnswer } from "./scripted-server.js";

/**
 * What can go wrong with an answer. `changes` alter what a server would have answered and can be put one behind the other; `faults` say how
 * it is sent: whole, in drips, cut off, or not at all.
 */
export type AnswerChange = (answer: FakeAnswer, seen: SeenRequest) => FakeAnswer;

function changed(answer: FakeAnswer, seen: SeenRequest, all: readonly AnswerChange[]): FakeAnswer {
  return all.reduce((before, change) => change(before, seen), answer);
}

/** `body` with a Content-Length that fits. */
function withBody(answer: FakeAnswer, body: Buffer): FakeAnswer {
  return { ...answer, body, headers: { ...answer.headers, "content-length": String(body.length) } };
}

export const changes = {
  status:
    (status: number): AnswerChange =>
    (answer) => ({ ...answer, status }),
  /** Undefined takes the header away. */
  header:
    (name: string, value: string | string[] | undefined): AnswerChange =>
    (answer) => {
      const { [name]: _, ...rest } = answer.headers;
      return { ...answer, headers: value === undefined ? rest : { ...rest, [name]: value } };
    },
  /** A body of another length, whose Content-Length fits and whose Content-Range does not. */
  body:
    (change: (body: Buffer) => Buffer): AnswerChange =>
    (answer) =>
      withBody(answer, change(answer.body)),
  /** One bit of the byte in the middle. */
  flippedByte: (): AnswerChange => (answer) => {
    const body = Buffer.from(answer.body);
    if (body.length > 0) body[body.length >> 1]! ^= 0x10;
    return { ...answer, body };
  },
  /** Other bytes of the same length, as a cache that mixes up its keys sends them. */
  otherBytes: (): AnswerChange => (answer) => ({ ...answer, body: Buffer.alloc(answer.body.length, "x") }),
  /** Bytes of a place before the one that is asked for, under the Content-Range that was. */
  shiftedRange:
    (whole: Buffer): AnswerChange =>
    (answer, seen) => {
      const start = Number(/=(\d+)-/.exec(seen.headers.range ?? "")?.[1] ?? 0);
      const from = Math.max(0, start - 100);
      return { ...answer, body: whole.subarray(from, from + answer.body.length) };
    },
  /** The whole blob as a 200, as servers without ranges send it. */
  wholeBlob:
    (whole: Buffer): AnswerChange =>
    (answer) =>
      withBody(
        changes.header("content-range", undefined)({ ...answer, status: 200 }, {} as SeenRequest),
        whole,
      ),
  /** A 206 in the form for several ranges (RFC 9110 14.6). */
  multipart: (): AnswerChange => (answer) => {
    const range = String(answer.headers["content-range"]);
    const part = `--edge\r\nContent-Type: application/octet-stream\r\nContent-Range: ${range}\r\n\r\n`;
    const { "content-range": _, ...headers } = answer.headers;
    const body = Buffer.concat([Buffer.from(part), answer.body, Buffer.from("\r\n--edge--\r\n")]);
    return withBody(
      { ...answer, headers: { ...headers, "content-type": "multipart/byteranges; boundary=edge" } },
      body,
    );
  },
};

export const faults = {
  /** What the server would have answered, changed. */
  changed:
    (...all: AnswerChange[]): Fault =>
    ({ response, answer, seen }) =>
      sendAnswer(response, changed(answer, seen, all)),
  status:
    (status: number, headers: Record<string, string> = {}, body = ""): Fault =>
    ({ response }) =>
      void response.writeHead(status, headers).end(body),
  redirect:
    (location: string, status = 307): Fault =>
    ({ response }) =>
      void response.writeHead(status, { location }).end(),
  /** The connection is gone before a byte of the answer. */
  reset:
    (): Fault =>
    ({ socket }) =>
      void socket.resetAndDestroy(),
  /** The connection is gone in the middle of the body. */
  resetInBody:
    (...all: AnswerChange[]): Fault =>
    (exchange) => {
      const { response, socket } = exchange;
      const { status, headers, body } = changed(exchange.answer, exchange.seen, all);
      response.writeHead(status, headers);
      response.write(body.subarray(0, body.length >> 1), () => socket.resetAndDestroy());
    },
  /** The connection ends in order, but before the body does. */
  shortBody: (): Fault => (exchange) => {
    const { response, socket, answer } = exchange;
    response.writeHead(answer.status, answer.headers);
    response.write(answer.body.subarray(0, answer.body.length >> 1), () => socket.end());
  },
  /** Nothing comes, and the connection stays. */
  silence: (): Fault => () => {},
  /** The header comes and then nothing. */
  silentBody:
    (): Fault =>
    ({ response, answer }) => {
      response.writeHead(answer.status, answer.headers);
      response.flushHeaders();
    },
  /** The body comes in drips, as long as somebody listens. */
  drip: (drip: { bytes: number; everyMs: number }): Fault => dripped(drip),
  /** Bytes on the connection that the server's HTTP has no part in. */
  raw:
    (bytes: string | Buffer | ((exchange: Exchange) => Buffer)): Fault =>
    (exchange) =>
      void exchange.socket.end(typeof bytes === "function" ? bytes(exchange) : bytes),
  /** The right answer in HTTP/1.0: no length, the end of the connection is the end of the body. */
  http10: (): Fault =>
    faults.raw(({ answer }) => {
      const { "content-length": _, ...headers } = answer.headers;
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}\r\n`);
      return Buffer.concat([
        Buffer.from(`HTTP/1.0 ${answer.status} OK\r\n${lines.join("")}\r\n`),
        answer.body,
      ]);
    }),
  /** One fault after the other, and the last one from then on. */
  inTurn: (...each: Fault[]): Fault => {
    let turn = 0;
    return (exchange) => each[Math.min(turn++, each.length - 1)]!(exchange);
  },
};

function dripped({ bytes, everyMs }: { bytes: number; everyMs: number }): Fault {
  return ({ response, answer }) => {
    response.writeHead(answer.status, answer.headers);
    response.flushHeaders();
    let at = 0;
    const timer = setInterval(() => {
      response.write(answer.body.subarray(at, at + bytes));
      at += bytes;
      if (at >= answer.body.length) {
        clearInterval(timer);
        response.end();
      }
    }, everyMs);
    response.on("close", () => clearInterval(timer));
  };
}
