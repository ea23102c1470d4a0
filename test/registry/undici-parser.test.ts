import { createServer } from "node:http";
import { type AddressInfo, createServer as createNetServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test, vi } from "vitest";
import { digestOf } from "../../src/image/digest.js";
import { parseReference, type RegistryReference } from "../../src/image/reference.js";
import { RegistrySource } from "../../src/registry/registry-source.js";
import { closeAfterTest, numberedBytes } from "./registry-trial.js";

/** Servers that end a connection with its answer, and readers that are slower than the network: both together ended the process. */

afterEach(() => vi.unstubAllEnvs());

const bytes = numberedBytes(1_500_000);
const blob = { digest: digestOf(bytes), size: bytes.length };

async function listen<S extends Server>(server: S): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closeAfterTest({ close: () => new Promise((resolve) => server.close(() => resolve())) });
  return (server.address() as AddressInfo).port;
}

/** Answers one request a connection with `header`, the bytes that it asks for, and what `end` does with the connection. */
function startServer(header: string, end: (socket: Socket) => void, cutAt = Number.POSITIVE_INFINITY) {
  return listen(
    createNetServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", (request) => {
        const [, first] = /range: bytes=(\d+)-/i.exec(request.toString("latin1")) ?? [];
        const start = Number(first ?? 0);
        const status = first === undefined ? "200 OK" : "206 Partial Content";
        const range = `content-range: bytes ${start}-${bytes.length - 1}/${bytes.length}\r\n`;
        const length = `content-length: ${bytes.length - start}\r\n`;
        const head = header.replace("STATUS", status).replace("LENGTH\r\n", length);
        socket.write(`${head}${first === undefined ? "" : range}\r\n`);
        socket.write(bytes.subarray(start, start + cutAt), () => end(socket));
      });
    }),
  );
}

async function readSlowly(port: number): Promise<Buffer> {
  const reference = parseReference(`127.0.0.1:${port}/library/slow:v1`) as RegistryReference;
  const source = new RegistrySource(reference, {
    settings: { attemptTimeoutMs: 5000, insecureRegistries: [] },
    credentials: async () => undefined,
  });
  closeAfterTest(source);
  const pieces: Buffer[] = [];
  for await (const piece of source.readBlob(blob)) {
    pieces.push(Buffer.from(piece));
    await sleep(1);
  }
  return Buffer.concat(pieces);
}

const closes = (socket: Socket) => void socket.end();
const resets = (socket: Socket) => void setTimeout(() => socket.resetAndDestroy(), 20);

test.each([
  ["HTTP/1.0 without a length", "HTTP/1.0 STATUS\r\n", closes],
  ["HTTP/1.0 with a length", "HTTP/1.0 STATUS\r\nLENGTH\r\n", closes],
  ["Connection: close", "HTTP/1.1 STATUS\r\nConnection: close\r\nLENGTH\r\n", closes],
  ["Connection: close, and a reset", "HTTP/1.1 STATUS\r\nConnection: close\r\nLENGTH\r\n", resets],
])("a slow reader gets the whole blob: %s", async (_, header, end) => {
  expect((await readSlowly(await startServer(header, end))).equals(bytes)).toBe(true);
});

test("an answer that its connection cuts short goes on with the next one, for a slow reader too", async () => {
  const port = await startServer("HTTP/1.1 STATUS\r\nConnection: close\r\nLENGTH\r\n", closes, 300_000);
  expect((await readSlowly(port)).equals(bytes)).toBe(true);
});

test("a server that takes one request a connection serves many readers at once", async () => {
  const server = createServer((request, response) => {
    response.shouldKeepAlive = false;
    if (request.url?.endsWith("/v2/")) response.end("{}");
    else response.end(bytes);
  });
  const port = await listen(server);
  const reads = await Promise.all(Array.from({ length: 8 }, () => readSlowly(port)));
  for (const read of reads) expect(read.equals(bytes)).toBe(true);
});

test("the last piece may fill a reader that waits, exactly when the connection ends", async () => {
  const small = numberedBytes(81_000);
  const port = await listen(
    createNetServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", async () => {
        socket.write("HTTP/1.0 200 OK\r\n\r\n");
        // Above 64 KiB undici stops reading: the third piece crosses that, and nothing comes behind it.
        for (const [start, end] of [
          [0, 1_000],
          [1_000, 41_000],
          [41_000, 81_000],
        ]) {
          await sleep(50);
          socket.write(small.subarray(start, end));
        }
        socket.end();
      });
    }),
  );
  const reference = parseReference(`127.0.0.1:${port}/library/slow:v1`) as RegistryReference;
  const source = new RegistrySource(reference, {
    settings: { attemptTimeoutMs: 5000, insecureRegistries: [] },
    credentials: async () => undefined,
  });
  closeAfterTest(source);
  const pieces: Buffer[] = [];
  for await (const piece of source.readBlob({ digest: digestOf(small), size: small.length })) {
    pieces.push(Buffer.from(piece));
    if (pieces.length === 1) await sleep(500);
  }
  expect(Buffer.concat(pieces).equals(small)).toBe(true);
});
