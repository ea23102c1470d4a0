import { createServer, type Socket } from "node:net";
import path from "node:path";
import { afterEach, expect, test } from "vitest";
import { callControlSocket, serveControlSocket } from "../../src/mount/control-socket.js";
import { makeTempDir } from "../support/temp-dir.js";

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** A server that does with a connection what `handle` says. */
async function listen(handle: (socket: Socket) => void): Promise<string> {
  const file = path.join(await makeTempDir("control"), "socket");
  const server = createServer((socket) => {
    socket.on("error", () => {});
    closing.push(() => socket.destroy());
    handle(socket);
  });
  closing.push(() => server.close());
  await new Promise<void>((resolve) => server.listen(file, resolve));
  return file;
}

test("a server that takes a request and never answers counts as wedged after a while", async () => {
  const file = await listen(() => {});
  expect(await callControlSocket(file, { operation: "stats" }, 50)).toBeUndefined();
});

test.each([
  ["without having read it", (socket: Socket) => void socket.destroy()],
  ["when it has read it", (socket: Socket) => void socket.once("data", () => socket.destroy())],
  ["in the middle of its answer", (socket: Socket) => void socket.once("data", () => socket.end('{"half'))],
])("a server that drops the connection %s counts as gone", async (_, handle) => {
  const file = await listen(handle);
  const reply = callControlSocket(file, { operation: "stats" });
  await expect(reply.then((found) => found?.answer)).resolves.toBeUndefined();
});

test("an answer comes back, and the end of the server is seen", async () => {
  const file = path.join(await makeTempDir("control"), "socket");
  const sockets: Socket[] = [];
  const server = await serveControlSocket(file, async (request) => ({ asked: request.operation }));
  server.listener.on("connection", (socket: Socket) => sockets.push(socket));
  const reply = await callControlSocket(file, { operation: "shutdown", force: true });
  expect(reply?.answer).toEqual({ asked: "shutdown" });
  await server.close();
  for (const socket of sockets) socket.destroy();
  await reply?.closed;
});

test("a server that is closed in the middle of a request answers it first", async () => {
  const file = path.join(await makeTempDir("control"), "socket");
  let finish = () => {};
  const server = await serveControlSocket(
    file,
    () =>
      new Promise((resolve) => {
        finish = () => resolve({ done: true });
      }),
  );
  const asked = callControlSocket(file, { operation: "stats" });
  await new Promise((resolve) =>
    server.listener.once("connection", (socket) => socket.once("data", resolve)),
  );
  let isClosed = false;
  const closing = server.close().then(() => {
    isClosed = true;
  });
  await new Promise(setImmediate);
  expect(isClosed).toBe(false);
  finish();
  await closing;
  const reply = await asked;
  expect(reply?.answer).toEqual({ done: true });
  reply?.disconnect();
});
