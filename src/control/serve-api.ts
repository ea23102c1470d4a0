/** The API on its Unix socket, for root alone. */
import { once } from "node:events";
import { rename, rm, stat } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import path from "node:path";
import { getRequestListener } from "@hono/node-server";
import { SkimError } from "../base/errors.js";

export function daemonSocket(runDir: string): string {
  return path.join(runDir, "daemon.sock");
}

export interface ServedApi {
  /** Takes no more requests, and waits for the answers to those that have come. */
  close(): Promise<void>;
}

type Fetch = (request: Request) => Response | Promise<Response>;

/** Serves at `<runDir>/daemon.sock`, in the place of a server before: nobody finds no socket in between. Throws LOCAL_IO. */
export async function serveApi(runDir: string, fetch: Fetch): Promise<ServedApi> {
  const socket = daemonSocket(runDir);
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
    throw new SkimError(
      "LOCAL_IO",
      `cannot listen on ${socket} (${beside.length} characters of at most 107)`,
      {
        cause,
      },
    );
  } finally {
    process.umask(mask);
  }
  const { ino } = await stat(socket);
  return {
    close: async () => {
      // A daemon that has taken over has put its own there.
      if ((await stat(socket).catch(() => undefined))?.ino === ino) await rm(socket, { force: true });
      await closeServer(server);
    },
  };
}

/** Serves on `host:port`, over TCP. Throws USAGE for another form, LOCAL_IO where that is taken. Resolves to where it listens. */
export async function serveOverTcp(
  address: string,
  fetch: Fetch,
): Promise<ServedApi & { readonly address: string }> {
  const [, host, port] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(address) ?? [];
  if (!host || !port)
    throw new SkimError(
      "USAGE",
      `address ${address} cannot be used: the form is HOST:PORT, e.g. 127.0.0.1:9464`,
    );
  const server = createServer(getRequestListener(fetch, { overrideGlobalObjects: false }));
  try {
    server.listen({ host, port: Number(port) });
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
