import { expect, test, vi } from "vitest";
import { silentLogger } from "../../src/base/logger.js";
import { CallScope } from "../../src/registry/call-scope.js";
import { startEmbeddedRegistry } from "../../src/registry/embedded-registry.js";
import { defaultRetryPolicy, retryAfterMs } from "../../src/registry/retry.js";
import { faults } from "../support/network-faults.js";
import { writeTestImage } from "../support/oci-layout.js";
import { makeTempDir } from "../support/temp-dir.js";
import {
  closeAfterTest,
  failureOf,
  numberedBytes,
  openSource,
  readAll,
  startFake,
} from "./registry-trial.js";

const blobs = /\/blobs\//;
const bytes = numberedBytes(5000);

test("a burst of 5xx answers and resets is outlasted", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, faults.status(500));
  registry.fail(blobs, faults.status(502, {}, "<html>bad gateway</html>"));
  registry.fail(blobs, faults.reset());
  registry.fail(blobs, faults.status(503));
  expect((await readAll(openSource(registry), blob)).equals(bytes)).toBe(true);
  expect(registry.requestsTo(blobs)).toHaveLength(5);
});

test("five failures in a row are the end, with the registry's own words", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  const body = JSON.stringify({ errors: [{ code: "UNAVAILABLE", message: "down for\nmaintenance" }] });
  registry.fail(blobs, faults.status(503, {}, body), 99);
  const error = await failureOf(readAll(openSource(registry), blob));
  expect(error.code).toBe("REGISTRY_UNAVAILABLE");
  expect(error.message).toContain("503: UNAVAILABLE: down for maintenance (5 attempts)");
  expect(registry.requestsTo(blobs)).toHaveLength(5);
});

test("a read with a deadline sits out an outage of more than five failures, but not a registry that lies", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, faults.status(503), 12);
  const retryPolicy = { ...defaultRetryPolicy, firstDelayMs: 2, delayFactor: 2, delayMsMax: 10 };
  const source = openSource(registry, undefined, { retryPolicy });
  expect((await readAll(source, blob, undefined, { deadlineMs: 30_000 })).equals(bytes)).toBe(true);
  expect(registry.requestsTo(blobs)).toHaveLength(13);

  registry.fail(blobs, faults.status(204), 99);
  const error = await failureOf(readAll(source, blob, undefined, { deadlineMs: 30_000 }));
  expect(error.code).toBe("REGISTRY_PROTOCOL");
  expect(registry.requestsTo(blobs)).toHaveLength(13 + 5);
});

test("a failed read is not remembered: the next one starts afresh", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, faults.status(500), 5);
  expect((await failureOf(readAll(source, blob))).code).toBe("REGISTRY_UNAVAILABLE");
  expect((await readAll(source, blob)).equals(bytes)).toBe(true);
});

test("Retry-After in seconds and as a date is waited for, and not beyond the deadline", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  const waits: unknown[] = [];
  const logger = {
    ...silentLogger,
    child: () => logger,
    debug: () => {},
    warn: (entry: { delayMs?: number }) => waits.push(entry.delayMs),
  } as never;
  const watched = openSource(registry, undefined, { logger });
  registry.fail(blobs, faults.status(429, { "retry-after": "1" }));
  expect((await readAll(watched, blob)).equals(bytes)).toBe(true);
  expect(waits).toEqual([1000]);
  const date = new Date(Date.now() + 30_000).toUTCString();
  registry.fail(blobs, faults.status(429, { "retry-after": date }));
  const late = await failureOf(readAll(source, blob, undefined, { deadlineMs: 5000 }));
  expect(late.code).toBe("DEADLINE_EXCEEDED");
  expect(late.message).toContain("429");
});

test("a Retry-After that is over, by the server or by a clock that is ahead, does not use up the attempts at once", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  const waits: number[] = [];
  const warn = (entry: { delayMs?: number }) => waits.push(entry.delayMs ?? -1);
  const logger = { ...silentLogger, child: () => logger, debug: () => {}, warn } as never;
  const retryPolicy = { ...defaultRetryPolicy, firstDelayMs: 40, delayFactor: 1 };
  registry.fail(blobs, faults.status(503, { "retry-after": "0" }));
  registry.fail(blobs, faults.status(503, { "retry-after": new Date(Date.now() - 60_000).toUTCString() }));
  const source = openSource(registry, undefined, { logger, retryPolicy });
  expect((await readAll(source, blob)).equals(bytes)).toBe(true);
  expect(waits).toHaveLength(2);
  for (const wait of waits) expect(wait).toBeGreaterThanOrEqual(20);
});

test("a Retry-After of an hour is told, not waited for", async () => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  registry.fail(
    blobs,
    faults.status(429, { "retry-after": "3600" }, '{"errors":[{"code":"TOOMANYREQUESTS"}]}'),
  );
  const error = await failureOf(readAll(openSource(registry), blob));
  expect(error.code).toBe("REGISTRY_UNAVAILABLE");
  expect(error.message).toMatch(/TOOMANYREQUESTS; it asks to come back in 3600 s/);
});

test("Retry-After is read as seconds or an HTTP date, and as nothing else", () => {
  const now = Date.UTC(2026, 0, 1);
  expect(retryAfterMs("7", now)).toBe(7000);
  expect(retryAfterMs("Thu, 01 Jan 2026 00:00:09 GMT", now)).toBe(9000);
  expect(retryAfterMs("Wed, 31 Dec 2025 23:59:00 GMT", now)).toBe(0);
  for (const odd of ["", "-1", "soon", "1.5", undefined]) expect(retryAfterMs(odd, now)).toBeUndefined();
});

test("a registry that is gone is REGISTRY_UNAVAILABLE, and the same source works when it is back", async () => {
  const layout = await makeTempDir("layout");
  const image = await writeTestImage(layout, []);
  const first = await startEmbeddedRegistry({ layout });
  const source = openSource(first, "x:latest");
  await source.resolve();
  await first.close();
  const error = await failureOf(source.resolve());
  expect(error.code).toBe("REGISTRY_UNAVAILABLE");
  expect(error.message).toContain("ECONNREFUSED");
  const again = await startEmbeddedRegistry({ layout, port: Number(first.host.split(":")[1]) });
  closeAfterTest(again);
  expect((await source.resolve()).manifestDigest).toBe(image.manifestDigest);
});

test("answers that no retry can mend are not tried again", async () => {
  const registry = await startFake();
  const source = openSource(registry);
  const gone = { ...registry.addBlob(bytes), digest: `sha256:${"0".repeat(64)}` as never };
  expect((await failureOf(readAll(source, gone))).code).toBe("NOT_FOUND");
  registry.fail(blobs, faults.status(400, {}, '{"errors":[{"code":"NAME_INVALID","message":"bad"}]}'));
  const error = await failureOf(readAll(source, registry.addBlob(bytes)));
  expect(error.code).toBe("REGISTRY_PROTOCOL");
  expect(error.message).toContain("NAME_INVALID: bad");
  expect(registry.requestsTo(blobs)).toHaveLength(2);
});

test("a call leaves no listener on the caller's signal", async () => {
  const abort = new AbortController();
  const added = vi.spyOn(abort.signal, "addEventListener");
  const removed = vi.spyOn(abort.signal, "removeEventListener");
  const registry = await startFake();
  await readAll(openSource(registry), registry.addBlob(bytes), undefined, {
    signal: abort.signal,
    deadlineMs: 1e12,
  });
  expect(added).toHaveBeenCalled();
  expect(removed.mock.calls.length).toBe(added.mock.calls.length);
});

test("many reads at once may share a signal without a warning", async () => {
  const warnings: Error[] = [];
  const note = (warning: Error) => warnings.push(warning);
  process.on("warning", note);
  const registry = await startFake();
  const source = openSource(registry);
  const blob = registry.addBlob(bytes);
  const { signal } = new AbortController();
  await Promise.all(Array.from({ length: 50 }, () => readAll(source, blob, undefined, { signal })));
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", note);
  expect(warnings).toEqual([]);
});

test("a deadline beyond what a timer can hold is no deadline at once", () => {
  const scope = new CallScope("waiting", undefined, performance.now() + 2 ** 40);
  scope.check();
  expect(scope.signal.aborted).toBe(false);
  scope.end();
});
