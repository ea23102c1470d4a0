import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, request, type Server } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import { buffer } from "node:stream/consumers";
import { afterEach, describe, expect, it } from "vitest";
import { type NetworkProfile, unshaped } from "../../bench/network/profiles.js";
import { NetworkProxy } from "../../bench/network/proxy.js";

const shaped: NetworkProfile = { name: "test", roundTripMs: 4, bitsPerSecond: 2e9, jitterMs: 3 };
const blob = randomBytes(3_000_001);
const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function listening(server: Server | ReturnType<typeof createTcpServer>): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

async function proxyOf(port: number): Promise<NetworkProxy> {
  const proxy = await NetworkProxy.start({ host: "127.0.0.1", port });
  closers.push(() => proxy.close());
  return proxy;
}

async function httpProxy(): Promise<NetworkProxy> {
  const server = createServer((incoming, response) => {
    const [, start, end] = /bytes=(\d+)-(\d+)/.exec(incoming.headers.range ?? "") ?? [];
    response.end(start === undefined ? blob : blob.subarray(Number(start), Number(end) + 1));
  });
  const port = await listening(server);
  closers.push(() => server.closeAllConnections());
  closers.push(() => server.close());
  return await proxyOf(port);
}

async function get(proxy: NetworkProxy, range?: string): Promise<Buffer> {
  const headers = range ? { range } : {};
  const sent = request({ host: "127.0.0.1", port: proxy.port, headers, agent: false }).end();
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  return await buffer(response);
}

describe("a network proxy", () => {
  for (const profile of [unshaped, shaped]) {
    it(`passes every byte in order, over many connections at once (${profile.name})`, async () => {
      const proxy = await httpProxy();
      proxy.reset(profile);
      const got = await Promise.all(Array.from({ length: 8 }, () => get(proxy)));
      for (const one of got) expect(one.equals(blob)).toBe(true);
      const { connections, requests, bytesUp, bytesDown, timeline } = proxy.report();
      expect({ connections, requests }).toEqual({ connections: 8, requests: 8 });
      expect(bytesDown).toBeGreaterThan(8 * blob.length);
      expect(bytesDown).toBeLessThan(8 * (blob.length + 1000));
      expect(bytesUp).toBeGreaterThan(0);
      expect(timeline.reduce((sum, [, bytes]) => sum + bytes, 0)).toBe(bytesDown);
    });
  }

  it("counts anew after a reset", async () => {
    const proxy = await httpProxy();
    await get(proxy, "bytes=0-99");
    proxy.reset(shaped);
    expect((await get(proxy, "bytes=100-299")).equals(blob.subarray(100, 300))).toBe(true);
    expect(proxy.report()).toMatchObject({ connections: 1, requests: 1 });
    expect(proxy.report().bytesDown).toBeLessThan(1000);
  });

  it("passes the end of either side behind its last byte", async () => {
    const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
      let received = "";
      socket.setEncoding("utf8").on("data", (text: string) => {
        received += text;
      });
      socket.once("end", () => socket.end(`${received} and back`));
    });
    const proxy = await proxyOf(await listening(server));
    closers.push(() => server.close());
    proxy.reset(shaped);
    const client = connect({ port: proxy.port, host: "127.0.0.1", allowHalfOpen: true });
    let received = "";
    client.setEncoding("utf8").on("data", (text: string) => {
      received += text;
    });
    client.end("there");
    await once(client, "close");
    expect(received).toBe("there and back");
  });

  it("stops reading from a server whose client does not read, and goes on when it does", async () => {
    const bytes = 200 * 2 ** 20;
    let sent = 0;
    const server = createTcpServer((socket) => {
      socket.on("error", () => {});
      const piece = Buffer.alloc(2 ** 20);
      const more = () => {
        while (sent < bytes) {
          sent += piece.length;
          if (!socket.write(piece)) return void socket.once("drain", more);
        }
        socket.end();
      };
      more();
    });
    const proxy = await proxyOf(await listening(server));
    closers.push(() => server.close());
    proxy.reset({ ...shaped, bitsPerSecond: 1e10 });
    const client = connect({ port: proxy.port, host: "127.0.0.1" });
    client.pause();
    // Until nothing more is taken from the server: its socket's buffers, the lane, and the client's are full.
    for (let before = -1; before !== sent; ) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    expect(sent).toBeLessThan(bytes / 2);
    expect((await buffer(client)).length).toBe(bytes);
  });

  it("ends the client's connection when the upstream refuses it", async () => {
    const server = createTcpServer();
    const port = await listening(server);
    await new Promise((resolve) => server.close(resolve));
    const proxy = await proxyOf(port);
    const client = connect({ port: proxy.port, host: "127.0.0.1" });
    client.on("error", () => {});
    await once(client, "close");
    expect(proxy.report().bytesDown).toBe(0);
  });
});
