import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import path from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { digestOf } from "../../src/image/digest.js";
import { makeTempDir } from "../support/temp-dir.js";
import {
  closeAfterTest,
  failureOf,
  numberedBytes,
  openSource,
  readAll,
  startFake,
} from "./registry-trial.js";

/** How a registry is reached: in the clear, over TLS, through a proxy. */

const bytes = numberedBytes(20_000);

afterEach(() => vi.unstubAllEnvs());

async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closeAfterTest({
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  });
  return (server.address() as AddressInfo).port;
}

/** A server that speaks TLS, with a certificate nobody knows, and answers plain requests as Go's servers do. */
async function startTlsServer(handler: RequestListener): Promise<string> {
  const dir = await makeTempDir("tls");
  const [key, cert] = ["key.pem", "cert.pem"].map((name) => path.join(dir, name)) as [string, string];
  execFileSync(
    "openssl",
    [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "2",
    ].concat([
      "-subj",
      "/CN=localhost",
      "-addext",
      "subjectAltName=IP:127.0.0.1",
      "-keyout",
      key,
      "-out",
      cert,
    ]),
    { stdio: "ignore" },
  );
  const https = createHttpsServer({ key: readFileSync(key), cert: readFileSync(cert) }, handler);
  const port = await listen(https);
  const front = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (first: Buffer) => {
      if (first[0] !== 0x16) {
        socket.end("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
        return;
      }
      const inner = connect(port, "127.0.0.1").on("error", () => {});
      inner.write(first);
      socket.pipe(inner).pipe(socket);
    });
  });
  return `127.0.0.1:${await listen(front)}`;
}

test("a loopback registry that turns out to speak TLS is spoken to over TLS", async () => {
  const host = await startTlsServer((_request, response) => void response.end(bytes));
  const blob = { digest: digestOf(bytes), size: bytes.length };
  const refused = await failureOf(readAll(openSource({ host }), blob));
  expect(refused.code).toBe("REGISTRY_UNAVAILABLE");
  expect(refused.message).toMatch(/certificate.*NODE_EXTRA_CA_CERTS/);
  vi.stubEnv("NODE_TLS_REJECT_UNAUTHORIZED", "0");
  expect((await readAll(openSource({ host }), blob)).equals(bytes)).toBe(true);
});

test("a redirect from https to plain http is followed to loopback and nowhere else", async () => {
  const storage = await startFake();
  const blob = storage.addBlob(bytes);
  let location = "http://storage.invalid/x";
  const host = await startTlsServer((request, response) => {
    response.writeHead(request.url?.includes("/blobs/") ? 307 : 200, { location }).end();
  });
  vi.stubEnv("NODE_TLS_REJECT_UNAUTHORIZED", "0");
  const source = openSource({ host });
  const error = await failureOf(readAll(source, blob));
  expect(error.code).toBe("REGISTRY_PROTOCOL");
  expect(error.message).toMatch(/from https to plain http \(storage.invalid\)/);
  location = `${storage.url}/v2/x/blobs/${blob.digest}`;
  expect((await readAll(source, blob)).equals(bytes)).toBe(true);
});

test("a registry that is not listed as insecure is never spoken to in the clear", async () => {
  const spoken: Buffer[] = [];
  const port = await listen(
    createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", (piece) => {
        spoken.push(piece);
        socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
      });
    }),
  );
  // A name that only the proxy can reach, so that the connection is seen here.
  const proxy = await startProxy(port);
  vi.stubEnv("HTTPS_PROXY", proxy.url);
  vi.stubEnv("HTTP_PROXY", proxy.url);
  vi.stubEnv("NO_PROXY", "");
  const error = await failureOf(openSource({ host: "registry.test:5000" }).resolve());
  expect(error.code).toBe("REGISTRY_UNAVAILABLE");
  expect(error.message).toContain("--insecure-registry registry.test:5000");
  expect(spoken.length).toBeGreaterThan(0);
  for (const first of spoken) expect(first[0]).toBe(0x16);
});

async function startProxy(port: number): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const proxy = createHttpServer();
  proxy.on("connect", (request, socket, head) => {
    asked.push(request.url ?? "");
    const upstream = connect(port, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      if (head.length > 0) upstream.write(head);
      upstream.pipe(socket).on("error", () => {});
      socket.pipe(upstream).on("error", () => {});
    });
    upstream.on("close", () => socket.destroy());
    socket.on("close", () => upstream.destroy());
  });
  return { url: `http://127.0.0.1:${await listen(proxy)}`, asked };
}

test("a proxy of the environment is used, but not for loopback", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  const proxy = await startProxy(Number(new URL(registry.url).port));
  vi.stubEnv("HTTP_PROXY", proxy.url);
  vi.stubEnv("HTTPS_PROXY", proxy.url);
  vi.stubEnv("NO_PROXY", "");
  const direct = openSource(registry);
  await readAll(direct, blob);
  expect(proxy.asked).toEqual([]);
  const source = openSource({ host: "registry.test:80" }, undefined, {
    insecureRegistries: ["registry.test"],
  });
  expect((await readAll(source, blob)).equals(bytes)).toBe(true);
  expect(proxy.asked).toContain("registry.test:80");
  await source.close();
});
