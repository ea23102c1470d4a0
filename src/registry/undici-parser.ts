import { Duplex } from "node:stream";

/**
 * Mends undici 7 where a server can end this process: when a connection that is not kept alive (HTTP/1.0, `Connection: close`, as nginx
 * answers the last request it takes on a connection) ends or breaks while a slow reader of the body has paused the parser, `Parser.finish`
 * fails an assertion inside a socket's event, where nobody can catch it.
 *
 * The fix is that of undici 8 (nodejs/undici#5360 and #5474), which needs Node 22: what the socket still holds goes through the parser first,
 * whatever the reader says; that is no more than a socket's buffer. To be dropped with undici 7.
 */
interface Parser {
  paused: boolean;
  /** 0 when no answer is under way. */
  readonly statusCode: number;
  readonly ptr: number | null;
  readonly socket: Duplex;
  readonly llhttp: { llhttp_resume(ptr: number): void };
  execute(bytes: Buffer): void;
  finish(): Error | null;
}

const noBytes = Buffer.alloc(0);
let mended: Promise<void> | undefined;

/** To be awaited before the first request. The parser is private to undici: it is found on a connection of a client that leads nowhere. */
export function mendPausedParser(undici: Pick<typeof import("undici"), "Client">): Promise<void> {
  mended ??= mend(undici);
  return mended;
}

async function mend({ Client }: Pick<typeof import("undici"), "Client">): Promise<void> {
  const socket = Object.assign(new Duplex({ read() {}, write: (_bytes, _encoding, done) => done() }), {
    ref() {},
    unref() {},
  });
  const client = new Client("http://nowhere.invalid", {
    connect: (_options, callback) => callback(null, socket as never),
  });
  client.dispatch({ path: "/", method: "GET" }, { onRequestStart() {}, onResponseError() {} });
  const parser = Object.getOwnPropertySymbols(socket)
    .map((symbol) => (socket as unknown as Record<symbol, unknown>)[symbol])
    .find(isParser);
  await client.destroy();
  if (parser) mendFinish(Object.getPrototypeOf(parser) as Parser);
}

function isParser(value: unknown): value is Parser {
  const parser = value as Partial<Parser> | null | undefined;
  return (
    typeof parser === "object" &&
    typeof parser?.finish === "function" &&
    typeof parser.execute === "function" &&
    typeof parser.llhttp?.llhttp_resume === "function" &&
    typeof parser.paused === "boolean"
  );
}

function mendFinish(prototype: Parser): void {
  const { finish } = prototype;
  prototype.finish = function (this: Parser): Error | null {
    // An answer that is complete destroys its socket; one that is broken as well.
    for (let left = true; left && this.paused && this.ptr !== null && this.statusCode !== 0; ) {
      const bytes = this.socket.read() as Buffer | null;
      // Without bytes, a parser whose reader is full pauses again and again: it is asked once, and then told that this is the end.
      left = bytes !== null && bytes.length > 0;
      this.llhttp.llhttp_resume(this.ptr);
      this.paused = false;
      this.execute(bytes ?? noBytes);
      if (!left && this.paused && this.ptr !== null) {
        this.llhttp.llhttp_resume(this.ptr);
        this.paused = false;
      }
    }
    return this.paused || this.statusCode === 0 ? null : finish.call(this);
  };
}
