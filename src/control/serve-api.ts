/** The API on its Unix socket, for root alone. */
import { once } from "node:events";
import { rename, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import path from "node:path";
import { getRequestListener } from "@hono/node-server";
import { SkimError } from "../base/errors.js";

export function daemonSocket(runDir: string): string {
  return path.join(runDir, "daemon.sock");
}

/** sun_path of unix(7), without its NUL. A longer path is cut by libuv, and the socket would be somewhere else. */
const socketPathBytesMax = 107;
/** A pid behind the name, while the socket of a server before is there. */
const besideBytes = 8;

/** Throws USAGE where the socket would have too long a path. */
export function requireSocketPath(runDir: string): void {
  const bytes = Buffer.byteLength(daemonSocket(runDir)) + besideBytes;
  if (bytes > socketPathBytesMax)
    throw new SkimError(
      "USAGE",
      `the run directory ${runDir} has too long a path for a socket in it: ${bytes - socketPathBytesMax} bytes too many; choose a shorter one (--run-dir)`,
    );
}

export interface ServedApi {
  /** Takes no more requests, and waits for the answers to those that have come. */
  close(): Promise<void>;
}

export interface ServedSocket extends ServedApi {
  /** Takes the socket's name away; what has connected is served. To be called before another server may put its own there, and not where one is going to. */
  withdraw(): Promise<void>;
}

export type Fetch = (request: Request) => Response | Promise<Response>;

/** Serves at `<runDir>/daemon.sock`, in the place of a server before: nobody finds no socket in between. Throws LOCAL_IO, and USAGE for too long a path. */
export async function serveApi(runDir: string, fetch: Fetch): Promise<ServedSocket> {
  const socket = daemonSocket(runDir);
  requireSocketPath(runDir);
  const beside = `${socket}.${process.pid}`;
  const server = createServer(getRequestListener(fetch, { overrideGlobalObjects: false }));
  // Indexing an image takes as long as it takes.
  server.requestTimeout = 0;
  await rm(beside, { force: true });
  const mask = process.umask(0o177);
  try {
    server.listen({ path: beside });
    await once(server, "listening");
    await rename(beside, socket);
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `cannot listen on ${socket}`, { cause });
  } finally {
    process.umask(mask);
  }
  return { withdraw: () => rm(socket, { force: true }), close: () => closeServer(server) };
}

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

/** HOST:PORT; an address of IPv6 is in brackets. Throws USAGE for another form. */
export function parseTcpAddress(address: string): TcpAddress {
  const [, host, port] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(address) ?? [];
  if (!host || !port || Number(port) > portMax)
    throw new SkimError(
      "USAGE",
      `address ${address} cannot be used: the form is HOST:PORT, e.g. 127.0.0.1:9464`,
    );
  return { host, port: Number(port) };
}

const portMax = 65_535;

/** Serves on `host:port`, over TCP. Throws LOCAL_IO where that is taken. Resolves to where it listens. */
export async function serveOverTcp(
  { host, port }: TcpAddress,
  fetch: Fetch,
): Promise<ServedApi & { readonly address: string }> {
  const address = `${host}:${port}`;
  const server = createServer(getRequestListener(fetch, { overrideGlobalObjects: false }));
  try {
    server.listen({ host, port });
    await once(server, "listening");
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `cannot listen on ${address}`, { cause });
  }
  const bound = server.address();
  const actual = typeof bound === "object" && bound ? `${host}:${bound.port}` : address;
  return { address: actual, close: () => closeServer(server) };
}

async function closeServer(server: Server): Promise<void> {
  const closed = once(server, "close");
  server.close();
  server.closeIdleConnections();
  await closed;
}
