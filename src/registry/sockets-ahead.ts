import { createRequire } from "node:module";
import net from "node:net";
import type { TLSSocket } from "node:tls";
import type { buildConnector } from "undici";

/**
 * Connections that are opened before undici is there to ask for them. It takes 15 ms to load and begins to connect only then, with each request; a cold start waits for the one
 * after the other, and for a TLS handshake besides. What undici does not take in a few seconds is closed.
 */

/** A start asks as soon as it can; who answers slowly keeps some of them busy that long. */
const idleMs = 5_000;

interface Opening {
  readonly socket: net.Socket;
  isReady: boolean;
  /** Takes the socket out, when it is handed over or has failed. */
  forget(): void;
}

type Connect = buildConnector.connector;
type ConnectOptions = Parameters<Connect>[0];

export class SocketsAhead {
  readonly #timeoutMs: number;
  readonly #openings = new Map<string, Opening[]>();
  #isClosed = false;

  /** `timeoutMs`: for a connection, handshake included. */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** Sees to it that `count` connections to `origin` are open or being opened that nobody has taken. What fails is asked for again by undici. */
  ensure(origin: URL, count: number): void {
    const key = keyOf(origin.protocol, hostnameOf(origin), origin.port);
    const openings = this.#openings.get(key) ?? [];
    this.#openings.set(key, openings);
    const tls = origin.protocol === "https:" ? loadTls() : undefined;
    while (!this.#isClosed && openings.length < count) {
      const host = hostnameOf(origin);
      const port = Number(origin.port) || (tls ? 443 : 80);
      // As undici connects.
      const socket = tls
        ? tls.connect({ host, port, servername: servernameOf(host), ALPNProtocols: ["http/1.1"] })
        : net.connect({ host, port, highWaterMark: 64 * 1024 } as net.TcpNetConnectOpts);
      this.#add(openings, socket, tls ? "secureConnect" : "connect");
    }
  }

  /** `connect`, but that it takes a connection that is here. */
  before(connect: Connect): Connect {
    return (options, callback) => {
      if (!this.#take(options, callback)) connect(options, callback);
    };
  }

  close(): void {
    this.#isClosed = true;
    for (const openings of this.#openings.values())
      for (const { socket, forget } of [...openings]) {
        forget();
        socket.destroy();
      }
  }

  #add(openings: Opening[], socket: net.Socket, readyEvent: string): void {
    const end = () => {
      opening.forget();
      socket.destroy();
    };
    const timer = setTimeout(end, Math.min(idleMs, this.#timeoutMs));
    const onReady = () => {
      opening.isReady = true;
    };
    const opening: Opening = {
      socket,
      isReady: false,
      forget() {
        clearTimeout(timer);
        socket.off(readyEvent, onReady).off("close", end).ref();
        const position = openings.indexOf(opening);
        if (position >= 0) openings.splice(position, 1);
      },
    };
    // Neither keeps a process that has nothing else to do.
    timer.unref();
    socket.setNoDelay(true).setKeepAlive(true, 60_000).unref();
    socket.once(readyEvent, onReady).once("close", end);
    // Its end is what counts; whoever has it by then hears of the error as well.
    socket.on("error", () => {});
    openings.push(opening);
  }

  #take(options: ConnectOptions, callback: Parameters<Connect>[1]): boolean {
    const { protocol, hostname, port, servername, localAddress } = options;
    if (localAddress || (servername && servername !== servernameOf(hostname))) return false;
    const opening = this.#openings.get(keyOf(protocol, hostname, port))?.[0];
    if (!opening) return false;
    const { socket, isReady } = opening;
    opening.forget();
    if (isReady) queueMicrotask(() => callback(null, socket as TLSSocket));
    else this.#handOverWhenReady(socket, protocol === "https:" ? "secureConnect" : "connect", callback);
    return true;
  }

  #handOverWhenReady(socket: net.Socket, readyEvent: string, callback: Parameters<Connect>[1]): void {
    let failure: Error = new Error("the connection was closed before it was open");
    const settle = (error: Error | undefined) => {
      clearTimeout(timer);
      socket.off(readyEvent, onReady).off("error", onError).off("close", onClose);
      if (error) callback(error, null);
      else callback(null, socket as TLSSocket);
    };
    const onReady = () => settle(undefined);
    const onError = (error: Error) => {
      failure = error;
    };
    const onClose = () => settle(failure);
    const timer = setTimeout(() => {
      const timeout = new Error("Connect Timeout Error");
      socket.destroy(Object.assign(timeout, { code: "UND_ERR_CONNECT_TIMEOUT" }));
    }, this.#timeoutMs);
    socket.once(readyEvent, onReady).on("error", onError).once("close", onClose);
  }
}

/** Only where it is needed: it takes longer to load than all of a connection in the clear. */
function loadTls(): typeof import("node:tls") {
  return createRequire(import.meta.url)("node:tls");
}

/** Without the brackets of IPv6. */
function hostnameOf({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, "");
}

/** An address has no name to ask for. */
function servernameOf(hostname: string): string {
  return net.isIP(hostname) ? "" : hostname;
}

function keyOf(protocol: string, hostname: string, port: string | null | undefined): string {
  return `${protocol}//${hostname}:${port || (protocol === "https:" ? 443 : 80)}`;
}
