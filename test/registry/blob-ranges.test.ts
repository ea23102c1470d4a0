import { expect, test } from "vitest";
import { faults } from "../support/network-faults.js";
import { sendRange } from "../support/range-answer.js";
import { failureOf, numberedBytes, openSource, quickRetries, readAll, startFake } from "./registry-trial.js";

const blobs = /\/blobs\//;
const bytes = numberedBytes(400_000);
const range = { start: 1000, end: 300_001 };
const wanted = bytes.subarray(range.start, range.end);

test("a range is exactly its bytes, asked for with Range and identity encoding", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  const [request] = registry.requestsTo(blobs);
  expect(request?.headers.range).toBe("bytes=1000-300000");
  expect(request?.headers["accept-encoding"]).toBe("identity");
  expect(source.counters).toEqual({ requests: 2, bytes: wanted.length });
});

test("a whole blob is asked for without a range, an empty range and an empty blob not at all", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  expect((await readAll(source, blob)).equals(bytes)).toBe(true);
  expect(registry.requestsTo(blobs).map((each) => each.headers.range)).toEqual([undefined]);
  expect(await readAll(source, blob, { start: 7, end: 7 })).toHaveLength(0);
  expect(await readAll(source, registry.addBlob(Buffer.alloc(0)))).toHaveLength(0);
  expect(registry.requestsTo(blobs)).toHaveLength(1);
});

test("reads one after the other share a connection", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  for (let i = 0; i < 20; i++) await readAll(source, blob, { start: i * 1000, end: i * 1000 + 70_000 });
  expect(registry.connections).toBe(1);
});

test("a 200 to a range request near the start is skipped through, and the rest of it is cut", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const big = numberedBytes(6_000_000);
  const blob = registry.addBlob(big);
  registry.fail(blobs, ({ response }) => sendRange(response, big, undefined));
  const near = { start: 5000, end: 9001 };
  expect((await readAll(source, blob, near)).equals(big.subarray(near.start, near.end))).toBe(true);
  expect(registry.requestsTo(blobs)).toHaveLength(1);
  expect(source.counters.bytes).toBeLessThan(1_000_000);
});

test("a 200 to a range request far from the start is refused, and no byte of it served", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = { ...registry.addBlob(bytes), size: 50_000_000 };
  registry.fail(blobs, faults.status(200, {}, "bytes from the start"), 99);
  const error = await failureOf(readAll(source, blob, { start: 20_000_000, end: 20_000_020 }));
  expect(error.code).toBe("REGISTRY_PROTOCOL");
  expect(error.message).toMatch(/does not seem to support ranges.*5 attempts/);
  expect(registry.requestsTo(blobs)).toHaveLength(5);
});

test.each([
  ["another start", { "content-range": "bytes 999-300000/400000" }],
  ["an end beyond what was asked for", { "content-range": "bytes 1000-300001/400000" }],
  ["another total", { "content-range": "bytes 1000-300000/400001" }],
  ["no Content-Range", {}],
  ["several parts", { "content-type": "multipart/byteranges; boundary=x" }],
  ["a malformed Content-Range", { "content-range": "bytes */400000" }],
  ["a start behind its end", { "content-range": "bytes 1000-999/400000" }],
  [
    "Content-Length that contradicts it",
    { "content-range": "bytes 1000-300000/400000", "content-length": "12" },
  ],
  ["a compressed body", { "content-range": "bytes 1000-300000/400000", "content-encoding": "gzip" }],
])("a 206 with %s is not believed, and the range is asked for again", async (_what, headers) => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  registry.fail(
    blobs,
    ({ response }) => void response.writeHead(206, headers as never).end(bytes.subarray(0, 12)),
    2,
  );
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  expect(registry.requestsTo(blobs)).toHaveLength(3);
  registry.fail(
    blobs,
    ({ response }) => void response.writeHead(206, headers as never).end(bytes.subarray(0, 12)),
    99,
  );
  const error = await failureOf(readAll(source, blob, range));
  expect(error.code).toBe("REGISTRY_PROTOCOL");
  expect(registry.requestsTo(blobs)).toHaveLength(8);
});

test("two Content-Encoding headers do not break the client", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, ({ response }) => {
    response.setHeader("content-encoding", ["gzip", "br"]);
    response.end(bytes);
  });
  expect((await readAll(openSource(registry), blob)).equals(bytes)).toBe(true);
});

test("a total of * is accepted", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, ({ response }) => {
    response.writeHead(206, { "content-range": "bytes 1000-300000/*" }).end(wanted);
  });
  expect((await readAll(openSource(registry), blob, range)).equals(wanted)).toBe(true);
  expect(registry.requestsTo(blobs)).toHaveLength(1);
});

test("a range that is answered in part is asked for again from where the part ends", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, ({ response }) => {
    response
      .writeHead(206, { "content-range": "bytes 1000-100999/400000" })
      .end(bytes.subarray(1000, 101_000));
  });
  expect((await readAll(openSource(registry), blob, range)).equals(wanted)).toBe(true);
  expect(registry.requestsTo(blobs).map((each) => each.headers.range)).toEqual([
    "bytes=1000-300000",
    "bytes=101000-300000",
  ]);
});

test("416 is a protocol error that is tried again", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, faults.status(416), 99);
  const error = await failureOf(readAll(openSource(registry), blob, range));
  expect(error.code).toBe("REGISTRY_PROTOCOL");
  expect(error.message).toContain("416");
  expect(registry.requestsTo(blobs)).toHaveLength(5);
});

test("a body that is longer than the range is cut, and its connection given up", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  const closed = new Promise<void>((resolve) => {
    registry.fail(blobs, ({ response }) => {
      response.on("close", resolve);
      response.writeHead(206, { "content-range": "bytes 1000-300000/400000" });
      response.write(wanted);
      response.write(Buffer.alloc(500_000, 0x58));
    });
  });
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  await closed;
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
});

test("a blob that is longer or shorter at the registry than its descriptor says is refused", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  for (const size of [bytes.length - 1, bytes.length + 1]) {
    const whole = await failureOf(readAll(source, { ...blob, size }));
    expect(whole.code).toBe("REGISTRY_PROTOCOL");
    const part = await failureOf(readAll(source, { ...blob, size }, { start: 5, end: 10 }));
    expect(part.message).toMatch(/the manifest says/);
  }
});

test.each([
  ["ends early though it says its length", (socket: { destroy(): void }) => socket.destroy()],
  ["is reset in the middle", (socket: { resetAndDestroy(): void }) => socket.resetAndDestroy()],
])("a body that %s goes on with a new range request at the next byte", async (_what, breakOff) => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  registry.fail(
    blobs,
    ({ seen, response, socket }) => {
      const [, start] = /bytes=(\d+)/.exec(seen.headers.range ?? "") ?? [];
      const at = Number(start);
      response.writeHead(206, {
        "content-range": `bytes ${at}-${range.end - 1}/${bytes.length}`,
        "content-length": range.end - at,
      });
      response.write(bytes.subarray(at, at + 70_000), () => setTimeout(() => breakOff(socket as never), 30));
    },
    2,
  );
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  const starts = registry
    .requestsTo(blobs)
    .map((each) => Number(/=(\d+)/.exec(each.headers.range ?? "")?.[1]));
  expect(starts).toHaveLength(3);
  expect(starts[0]).toBe(1000);
  expect(starts[1]).toBeGreaterThan(1000);
  expect(starts[2]).toBeGreaterThan(starts[1]!);
});

test("a chunked body without a length that ends early is noticed", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, ({ response }) => {
    response.writeHead(206, { "content-range": "bytes 1000-300000/400000" });
    response.end(wanted.subarray(0, 100));
  });
  expect((await readAll(openSource(registry), blob, range)).equals(wanted)).toBe(true);
  expect(registry.requestsTo(blobs)[1]?.headers.range).toBe("bytes=1100-300000");
});

test("chunked bodies without a length are read as well as any", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, ({ response }) => {
    response.write(bytes.subarray(0, 1234));
    response.end(bytes.subarray(1234));
  });
  expect((await readAll(openSource(registry), blob)).equals(bytes)).toBe(true);
});

test("one byte a connection does not go on for ever", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  registry.fail(
    blobs,
    ({ seen, response, socket }) => {
      const at = Number(/=(\d+)/.exec(seen.headers.range ?? "")?.[1]);
      response.writeHead(206, {
        "content-range": `bytes ${at}-300000/400000`,
        "content-length": range.end - at,
      });
      response.write(bytes.subarray(at, at + 1), () => setTimeout(() => socket.destroy(), 10));
    },
    99,
  );
  const error = await failureOf(readAll(openSource(registry), blob, range));
  expect(error.code).toBe("REGISTRY_UNAVAILABLE");
  expect(registry.requestsTo(blobs)).toHaveLength(5);
});

test("no answer at all is given up after the time of an attempt, and tried again", async () => {
  const registry = await startFake();
  const source = openSource(registry, undefined, { attemptTimeoutMs: 100 });
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, faults.silence(), 1);
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  expect(registry.requestsTo(blobs)).toHaveLength(2);
});

test("a body that stops is given up after the time of an attempt and continued", async () => {
  const registry = await startFake();
  const source = openSource(registry, undefined, { attemptTimeoutMs: 100 });
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, ({ response }) => {
    response.writeHead(206, { "content-range": "bytes 1000-300000/400000", "content-length": wanted.length });
    response.write(wanted.subarray(0, 50_000));
  });
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  expect(registry.requestsTo(blobs)[1]?.headers.range).toBe("bytes=51000-300000");
});

test("a body that drips is ended by the deadline", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, ({ response }) => {
    response.writeHead(206, { "content-range": "bytes 1000-300000/400000", "content-length": wanted.length });
    let at = 0;
    const timer = setInterval(() => response.write(wanted.subarray(at, ++at)), 10);
    response.on("close", () => clearInterval(timer));
  });
  const error = await failureOf(readAll(source, blob, range, { deadlineMs: 200 }));
  expect(error.code).toBe("DEADLINE_EXCEEDED");
});

test("the deadline names the last failure, and no attempt is begun that could not finish", async () => {
  const registry = await startFake();
  const source = openSource(registry, undefined, {
    retryPolicy: { ...quickRetries, firstDelayMs: 60_000, delayMsMax: 60_000 },
  });
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, faults.status(503, {}, "maintenance"), 99);
  const error = await failureOf(readAll(source, blob, range, { deadlineMs: 5000 }));
  expect(error.code).toBe("DEADLINE_EXCEEDED");
  expect(error.message).toMatch(/503: maintenance/);
  expect(registry.requestsTo(blobs)).toHaveLength(1);
});

test("an AbortSignal ends a read while it waits for an answer, for the body, and for the next attempt", async () => {
  const registry = await startFake();
  const source = openSource(registry, undefined, {
    retryPolicy: { ...quickRetries, firstDelayMs: 60_000, delayMsMax: 60_000 },
  });
  const blob = registry.addBlob(bytes);
  const part = faults.status(503);
  for (const fault of [faults.silence(), part]) {
    const abort = new AbortController();
    registry.fail(blobs, (exchange) => {
      fault(exchange);
      setTimeout(() => abort.abort(new Error("enough")), 50);
    });
    expect((await failureOf(readAll(source, blob, range, { signal: abort.signal }))).code).toBe("CANCELLED");
  }
  const abort = new AbortController();
  registry.fail(blobs, ({ response }) => {
    response.writeHead(206, { "content-range": "bytes 1000-300000/400000", "content-length": wanted.length });
    response.write(wanted.subarray(0, 50_000));
  });
  let received = 0;
  const reading = (async () => {
    for await (const piece of source.readBlob(blob, { range, signal: abort.signal })) {
      received += piece.length;
      if (received === 50_000) abort.abort();
    }
  })();
  expect((await failureOf(reading)).code).toBe("CANCELLED");
  const gone = AbortSignal.abort();
  const before = registry.seen.length;
  expect((await failureOf(readAll(source, blob, range, { signal: gone }))).code).toBe("CANCELLED");
  expect(registry.seen).toHaveLength(before);
});

test("leaving the iteration early closes the body", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  const closed = new Promise<void>((resolve) => {
    registry.fail(blobs, ({ response }) => {
      response.on("close", resolve);
      response.writeHead(200, { "content-length": bytes.length });
      response.write(bytes.subarray(0, 50_000));
    });
  });
  for await (const _piece of source.readBlob(blob)) break;
  await closed;
});

test("closing the source cancels what is under way", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  const waiting = new Promise<void>((resolve) => registry.fail(blobs, () => resolve()));
  const reading = failureOf(readAll(source, blob));
  await waiting;
  await source.close();
  expect((await reading).code).toBe("CANCELLED");
});

test("many readers at once each get their own bytes", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  await Promise.all(
    Array.from({ length: 100 }, async (_, i) => {
      const part = { start: i * 3000, end: i * 3000 + 50_000 };
      expect((await readAll(source, blob, part)).equals(bytes.subarray(part.start, part.end))).toBe(true);
    }),
  );
  expect(registry.connections).toBeLessThanOrEqual(16);
});
