import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import net, { type AddressInfo, type Socket } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import { silentLogger } from "../../src/base/logger.js";
import { TransientFailure } from "../../src/registry/retry.js";
import { Transport } from "../../src/registry/transport.js";
import { makeCertificate } from "../support/certificates.js";

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const close of closing.splice(0).reverse()) await close();
});

/** A server that counts who connects, and holds answers until `holds` of them are asked for. */
async function listen(server: net.Server, { holds = 1 } = {}) {
  const sockets = new Set<Socket>();
  const seen = { connections: 0, origin: new URL("http://nowhere.invalid") };
  server.on("connection", (socket: Socket) => {
    seen.connections++;
    sockets.add(socket);
    socket.on("error", () => {}).once("close", () => sockets.delete(socket));
  });
  const waiting: http.ServerResponse[] = [];
  server.on("request", (_request: http.IncomingMessage, answer: http.ServerResponse) => {
    waiting.push(answer);
    if (waiting.length >= holds) for (const one of waiting.splice(0)) one.end("yes");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  seen.origin = new URL(`${server instanceof https.Server ? "https" : "http"}://127.0.0.1:${port}`);
  closing.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { seen, sockets };
}

function openTransport(attemptTimeoutMs = 5_000): Transport {
  const transport = new Transport({ attemptTimeoutMs, logger: silentLogger });
  closing.push(() => transport.close());
  return transport;
}

async function get(transport: Transport, origin: URL): Promise<string> {
  const signal = AbortSignal.timeout(20_000);
  const response = await transport.send({ url: new URL("/v2/", origin), headers: {} }, signal);
  return (await transport.bytes(response, 100, "an answer", signal)).toString();
}

const all = (transport: Transport, origin: URL, count: number) =>
  Promise.all(Array.from({ length: count }, () => get(transport, origin)));

describe("connections that are opened ahead", () => {
  it("are those that the first requests are sent through, and further ones are opened as ever", async () => {
    const { seen } = await listen(http.createServer(), { holds: 4 });
    const transport = openTransport();
    transport.connectAhead(seen.origin, 3);
    await vi.waitFor(() => expect(seen.connections).toBe(3));
    expect(await all(transport, seen.origin, 4)).toEqual(["yes", "yes", "yes", "yes"]);
    expect(seen.connections).toBe(4);
  });

  it("are opened for the first requests when nobody has spoken of them before, one for each", async () => {
    const { seen } = await listen(http.createServer(), { holds: 3 });
    const transport = openTransport();
    expect(await all(transport, seen.origin, 3)).toEqual(["yes", "yes", "yes"]);
    expect(seen.connections).toBe(3);
  });

  it("speak TLS where the origin does", async () => {
    vi.stubEnv("NODE_TLS_REJECT_UNAUTHORIZED", "0");
    const { seen } = await listen(https.createServer(await makeCertificate()), { holds: 2 });
    const transport = openTransport();
    transport.connectAhead(seen.origin, 2);
    await vi.waitFor(() => expect(seen.connections).toBe(2));
    expect(await all(transport, seen.origin, 2)).toEqual(["yes", "yes"]);
    expect(seen.connections).toBe(2);
  });

  it("to somebody with a certificate that nobody trusts fail the request that takes them, and say so", async () => {
    const { seen } = await listen(https.createServer(await makeCertificate()));
    const transport = openTransport();
    transport.connectAhead(seen.origin, 1);
    await expect(get(transport, seen.origin)).rejects.toMatchObject({
      code: "REGISTRY_UNAVAILABLE",
      message: expect.stringContaining("its certificate is not trusted"),
    });
  });

  it("that the server has closed meanwhile are passed over", async () => {
    const { seen, sockets } = await listen(http.createServer());
    const transport = openTransport();
    transport.connectAhead(seen.origin, 2);
    await vi.waitFor(() => expect(seen.connections).toBe(2));
    const closed = Promise.all([...sockets].map((socket) => once(socket, "close")));
    for (const socket of sockets) socket.destroy();
    await closed;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await get(transport, seen.origin)).toBe("yes");
    expect(seen.connections).toBe(3);
  });

  it("that nobody takes are closed again", async () => {
    const { seen, sockets } = await listen(http.createServer());
    openTransport(200).connectAhead(seen.origin, 2);
    await vi.waitFor(() => expect(seen.connections).toBe(2));
    await vi.waitFor(() => expect(sockets.size).toBe(0));
  });

  it("go with the transport", async () => {
    const { seen, sockets } = await listen(http.createServer());
    const transport = openTransport();
    transport.connectAhead(seen.origin, 2);
    await vi.waitFor(() => expect(seen.connections).toBe(2));
    await transport.close();
    await vi.waitFor(() => expect(sockets.size).toBe(0));
  });

  it("that are refused fail the request as any other does, and no process", async () => {
    const server = net.createServer();
    const { seen } = await listen(server);
    await new Promise((resolve) => server.close(resolve));
    const transport = openTransport();
    transport.connectAhead(seen.origin, 2);
    const failure = await get(transport, seen.origin).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(TransientFailure);
    expect((failure as TransientFailure).message).toContain("ECONNREFUSED");
  });

  it("whose handshake is never answered fail the request in its time", async () => {
    const { seen } = await listen(net.createServer());
    const origin = new URL(`https://${seen.origin.host}`);
    const transport = openTransport(300);
    transport.connectAhead(origin, 1);
    const failure = await get(transport, origin).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(TransientFailure);
    expect((failure as TransientFailure).message).toContain("no answer for 300 ms");
  });
});
