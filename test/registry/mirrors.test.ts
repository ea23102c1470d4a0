import { expect, test, vi } from "vitest";
import type { CredentialLookup } from "../../src/registry/credentials.js";
import type { FakeRegistry } from "../support/fake-registry.js";
import type { Fault, SeenRequest } from "../support/fault-script.js";
import { changes, faults } from "../support/network-faults.js";
import { failureOf, numberedBytes, openSource, quickRetries, readAll, startFake } from "./registry-trial.js";

/** Mirrors of a registry: who is asked, in which order, and what each of them is told. */

const bytes = numberedBytes(300_000);
const range = { start: 1000, end: 200_000 };
const wanted = bytes.subarray(range.start, range.end);
const longRest = { firstMs: 3_600_000, factor: 1, msMax: 3_600_000 };
/** Over when the next request is made, whatever the machine is doing. */
const noRest = { firstMs: 0, factor: 1, msMax: 0 };

/** A registry and mirrors with the same image. */
async function startMirrored(mirrorCount: number) {
  const servers = [await startFake()];
  for (let i = 0; i < mirrorCount; i++) servers.push(await startFake());
  for (const server of servers) server.addImage({ tag: "v1", layer: bytes });
  const blob = servers[0]!.addBlob(bytes);
  const [origin, ...mirrors] = servers as [FakeRegistry, ...FakeRegistry[]];
  const open = (options: Parameters<typeof openSource>[2] = {}) =>
    openSource(origin, "team/app:v1", {
      mirrors: { [origin.host]: mirrors.map((mirror) => mirror.url) },
      restPolicy: longRest,
      ...options,
    });
  return { origin, mirrors, blob, open };
}

test("an image is resolved and read from the first mirror alone, and keeps the origin's name", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(2);
  const source = open();
  const image = await source.resolve();
  expect(image.reference).toMatchObject({ registry: origin.host, repository: "team/app", tag: "v1" });
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  expect(origin.seen).toEqual([]);
  expect(mirrors[1]!.seen).toEqual([]);
  expect(mirrors[0]!.counters).toMatchObject({ manifest: 1, blob: 2 });
  // For mirrors of several registries.
  const content = mirrors[0]!.seen.filter(({ kind }) => kind !== "version");
  expect(content.map(({ query }) => query.get("ns"))).toEqual(content.map(() => origin.host));
});

test("the path of a mirror goes before the repository", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(1);
  const source = open({ mirrors: { [origin.host]: [`${mirrors[0]!.url}/proxy/hub/`] } });
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  expect(mirrors[0]!.requestsTo(/blobs/).map(({ path }) => path)).toEqual([
    `/v2/proxy/hub/team/app/blobs/${blob.digest}`,
  ]);
});

test("mirrors of another registry are not asked", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(1);
  await readAll(open({ mirrors: { "docker.io": [mirrors[0]!.url] } }), blob, range);
  expect(mirrors[0]!.seen).toEqual([]);
  expect(origin.counters.blob).toBe(1);
});

const failures: Array<[string, Fault]> = [
  ["answers 404", faults.status(404)],
  ["answers 500", faults.status(500)],
  ["answers 429", faults.status(429, { "retry-after": "1" })],
  ["answers 403", faults.status(403)],
  ["asks for credentials that nobody has", faults.status(401, { "www-authenticate": 'Basic realm="x"' })],
  ["resets", faults.reset()],
  ["resets in the body", faults.resetInBody()],
  ["sends a wrong range", faults.changed(changes.header("content-range", "bytes 0-9/300000"))],
  ["sends another length", faults.changed(changes.header("content-range", "bytes 1000-199999/300001"))],
  ["compresses", faults.changed(changes.header("content-encoding", "gzip"))],
  [
    "redirects in a circle",
    ({ seen, response }) => void response.writeHead(307, { location: seen.path }).end(),
  ],
  ["speaks no HTTP", faults.raw("220 mirror ESMTP\r\n")],
  ["is silent", faults.silence()],
  ["drips", faults.drip({ bytes: 1, everyMs: 20 })],
  ["stops in the header", faults.silentBody()],
];

test.each(failures)(
  "a mirror that %s is left for the next one, and then for the origin",
  async (_, fault) => {
    const { origin, mirrors, blob, open } = await startMirrored(2);
    const source = open({ mirrorTimeoutMs: 300 });
    mirrors[0]!.script.add({ on: "blob", fault, times: Number.POSITIVE_INFINITY });
    expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
    expect([origin.counters.blob, mirrors[1]!.counters.blob]).toEqual([0, 1]);
    mirrors[1]!.script.add({ on: "blob", fault, times: Number.POSITIVE_INFINITY });
    expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
    expect(origin.counters.blob).toBe(1);
    // Both rest now: nobody but the origin is asked.
    const asked = mirrors.map((mirror) => mirror.counters.blob);
    expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
    expect(mirrors.map((mirror) => mirror.counters.blob)).toEqual(asked);
  },
);

test("a mirror that cannot be reached is left, for manifests as for blobs", async () => {
  const { mirrors, blob, open } = await startMirrored(1);
  const source = open();
  await mirrors[0]!.close();
  expect((await source.resolve()).layers).toHaveLength(1);
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
});

test("a mirror that breaks off in the middle is continued by the next one, and no byte is asked for twice", async () => {
  const { mirrors, blob, open } = await startMirrored(2);
  mirrors[0]!.script.add({ on: "blob", fault: faults.resetInBody() });
  expect((await readAll(open(), blob, range)).equals(wanted)).toBe(true);
  const start = Number(/=(\d+)-/.exec(mirrors[1]!.requestsTo(/blobs/)[0]!.headers.range!)?.[1]);
  expect(start).toBeGreaterThan(range.start);
  expect(start).toBeLessThan(range.end);
});

test("a mirror that is good again is used again, after one attempt that tries it out", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(1);
  const source = open({ restPolicy: noRest });
  mirrors[0]!.script.add({ on: "blob", fault: faults.status(503) });
  await readAll(source, blob, range);
  expect([mirrors[0]!.counters.blob, origin.counters.blob]).toEqual([1, 1]);
  const together = await Promise.all(Array.from({ length: 8 }, () => readAll(source, blob, range)));
  expect(together.every((each) => each.equals(wanted))).toBe(true);
  // One of them tried the mirror out; the others did not wait for what comes of that.
  expect([mirrors[0]!.counters.blob, origin.counters.blob]).toEqual([2, 8]);
  await Promise.all(Array.from({ length: 8 }, () => readAll(source, blob, range)));
  expect([mirrors[0]!.counters.blob, origin.counters.blob]).toEqual([10, 8]);
});

test("a mirror that has not got a blob still serves the others", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(1);
  const lonely = origin.addBlob(numberedBytes(5000));
  const source = open();
  expect(await readAll(source, lonely)).toHaveLength(5000);
  await readAll(source, lonely);
  await readAll(source, blob, range);
  expect(mirrors[0]!.requestsTo(/blobs/)).toHaveLength(2);
  expect(origin.requestsTo(/blobs/)).toHaveLength(2);
});

test("bytes that turned out wrong come from the next mirror, and after two wrong ones from the origin", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(3);
  const other = numberedBytes(10_000).reverse();
  for (const server of [origin, ...mirrors]) server.addBlob(other);
  const second = { digest: origin.addBlob(other).digest, size: other.length };
  for (const mirror of mirrors) mirror.replaceBlob(blob.digest, Buffer.alloc(bytes.length));
  const source = open();
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(false);
  expect((await readAll(source, blob, range, { afterDamage: true })).equals(wanted)).toBe(false);
  expect((await readAll(source, blob, range, { afterDamage: true })).equals(wanted)).toBe(true);
  expect(mirrors.map((mirror) => mirror.counters.blob)).toEqual([1, 1, 0]);
  // It has this blob wrong; it may have others right.
  await readAll(source, second);
  expect(mirrors[0]!.counters.blob).toBe(2);
});

test("the mirror that sent the wrong bytes is blamed, not who has sent others of the blob since", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(2);
  const [first, second] = mirrors as [FakeRegistry, FakeRegistry];
  const ofStart = (seen: SeenRequest) => seen.kind === "blob" && seen.headers.range === "bytes=1000-199999";
  first.script.add({ on: ofStart, fault: faults.changed(changes.otherBytes()) });
  first.script.add({ on: "blob", fault: faults.status(404) });
  const source = open({ restPolicy: { firstMs: 0, factor: 1, msMax: 3_600_000 } });
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(false);
  // The first has not got this part, and the second steps in for it.
  const part = { start: 250_000, end: 260_000 };
  expect(await readAll(source, blob, part)).toHaveLength(10_000);
  expect([first.counters.blob, second.counters.blob]).toEqual([2, 1]);
  expect((await readAll(source, blob, range, { afterDamage: true })).equals(wanted)).toBe(true);
  expect([first.counters.blob, second.counters.blob, origin.counters.blob]).toEqual([2, 2, 0]);
});

test("a mirror that has not got a blob is well all the same", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(1);
  const lonely = origin.addBlob(numberedBytes(5000));
  const source = open({ restPolicy: noRest });
  mirrors[0]!.script.add({ on: "blob", fault: faults.status(503) });
  await readAll(source, blob, range);
  await readAll(source, lonely);
  const together = Array.from({ length: 4 }, () => readAll(source, blob, range));
  await Promise.all(together);
  expect(mirrors[0]!.requestsTo(new RegExp(blob.digest))).toHaveLength(1 + 4);
});

test("a manifest or config that a mirror has wrong comes from the next one", async () => {
  const { origin, mirrors, open } = await startMirrored(2);
  mirrors[0]!.script.add({ on: "manifest", fault: faults.changed(changes.flippedByte()) });
  mirrors[1]!.script.add({ on: "blob", fault: faults.changed(changes.flippedByte()) });
  const image = await open({ restPolicy: longRest }).resolve();
  expect(image.layers).toHaveLength(1);
  expect([origin, ...mirrors].map(({ counters }) => [counters.manifest, counters.blob])).toEqual([
    [0, 0],
    [1, 1],
    [1, 0],
  ]);
});

test("each host gets its own credentials and no other's", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(2);
  const auth = (name: string) => ({ kind: "basic" as const, username: name, password: `${name}-secret` });
  origin.auth = auth("origin");
  mirrors[0]!.auth = { ...auth("first"), kind: "bearer" };
  mirrors[1]!.auth = auth("second");
  const names = new Map([
    [origin.host, "origin"],
    [mirrors[0]!.host, "first"],
    [mirrors[1]!.host, "second"],
  ]);
  const credentials: CredentialLookup = async (registry) => {
    const name = names.get(registry)!;
    return { origin: name, credentials: { kind: "password", username: name, password: `${name}-secret` } };
  };
  mirrors[0]!.script.add({ on: "blob", first: 3, fault: faults.status(500) });
  mirrors[1]!.script.add({ on: "blob", fault: faults.status(500), first: 2 });
  const source = open({ credentials });
  for (let i = 0; i < 4; i++) expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  for (const server of [origin, ...mirrors]) {
    expect(server.counters.blob).toBeGreaterThan(0);
    const own = names.get(server.host)!;
    const told = server.seen.map(({ headers }) => {
      const [scheme, value] = (headers.authorization ?? "").split(" ");
      return scheme === "Basic" ? Buffer.from(value!, "base64").toString() : (value ?? "");
    });
    for (const text of told.filter((each) => each.includes("-secret")))
      expect(text).toBe(`${own}:${own}-secret`);
  }
  // Bearer tokens of the first mirror have been seen there only.
  const withToken = (server: FakeRegistry) =>
    server.seen.filter(({ headers }) => headers.authorization?.startsWith("Bearer")).length;
  expect([origin, mirrors[1]!].map(withToken)).toEqual([0, 0]);
  expect(withToken(mirrors[0]!)).toBeGreaterThan(0);
});

test("what the origin fails with is the error, and it says what the mirrors had failed with", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(1);
  await mirrors[0]!.close();
  origin.fail(/blobs/, faults.status(404));
  const error = await failureOf(readAll(open(), blob, range));
  expect(error.code).toBe("NOT_FOUND");
  expect(error.message).toContain(origin.host);
  expect(error.message).toMatch(new RegExp(`before that: .*${mirrors[0]!.host}`));
});

test("failing mirrors cost the origin no attempt, and the origin is retried as ever", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(2);
  for (const mirror of mirrors) mirror.fail(/blobs/, faults.status(500), 99);
  origin.fail(/blobs/, faults.status(500), quickRetries.attemptsMax - 1);
  expect((await readAll(open(), blob, range)).equals(wanted)).toBe(true);
  expect(origin.counters.blob).toBe(quickRetries.attemptsMax);
});

test("a deadline or a caller that leaves is no mirror's fault", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(1);
  const mirror = mirrors[0]!;
  const source = open({ mirrorTimeoutMs: 9_000 });
  mirror.script.add({ on: "blob", fault: faults.silence(), times: Number.POSITIVE_INFINITY });
  const late = await failureOf(readAll(source, blob, range, { deadlineMs: 300 }));
  expect(late.code).toBe("DEADLINE_EXCEEDED");
  const leaving = new AbortController();
  const left = failureOf(readAll(source, blob, range, { signal: leaving.signal }));
  const before = mirror.counters.blob;
  await vi.waitFor(() => expect(mirror.counters.blob).toBeGreaterThan(before), 8_000);
  leaving.abort();
  expect((await left).code).toBe("CANCELLED");
  mirror.script.clear();
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  expect(origin.counters.blob).toBe(0);
});

test("a reader that is slow is no slow mirror", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(1);
  const source = open({ mirrorTimeoutMs: 200 });
  let length = 0;
  for await (const piece of source.readBlob(blob)) {
    if (length === 0) await new Promise((resolve) => setTimeout(resolve, 400));
    length += piece.length;
  }
  expect(length).toBe(bytes.length);
  expect([mirrors[0]!.counters.blob, origin.counters.blob]).toEqual([1, 0]);
});

test("a mirror in the clear beyond loopback takes the user's word", async () => {
  const origin = await startFake();
  const mirrors = { [origin.host]: ["http://mirror.example:5000"] };
  expect(() => openSource(origin, "team/app:v1", { mirrors })).toThrow(
    /--insecure-registry mirror.example:5000/,
  );
  openSource(origin, "team/app:v1", { mirrors, insecureRegistries: ["mirror.example"] });
});

test("a source tells how its mirrors do, whom it asks, and which attempts repeat others", async () => {
  const { origin, mirrors, blob, open } = await startMirrored(3);
  mirrors[0]!.script.add({ on: "blob", fault: faults.status(500), times: Number.POSITIVE_INFINITY });
  mirrors[1]!.script.add({ on: "blob", fault: faults.status(404), times: Number.POSITIVE_INFINITY });
  const source = open();
  expect(source.mirrors?.().map(({ state }) => state)).toEqual(["in use", "in use", "in use"]);
  const attempts: unknown[] = [];
  for await (const _ of source.readBlob(blob, { range, onAttempt: (attempt) => attempts.push(attempt) }));
  const hosts = mirrors.map(({ host }) => host);
  expect(attempts).toEqual([
    { host: hosts[0], isRetry: false },
    { host: hosts[1], isRetry: true },
    { host: hosts[2], isRetry: true },
  ]);
  expect(source.mirrors?.()).toMatchObject([
    { name: hosts[0], state: "resting", reason: expect.stringContaining("500"), missingBlobs: 0 },
    { name: hosts[1], state: "in use", missingBlobs: 1, wrongBlobs: 0 },
    { name: hosts[2], state: "in use", missingBlobs: 0, wrongBlobs: 0 },
  ]);
  expect(source.mirrors?.()[0]?.restMs).toBeGreaterThan(0);
  source.rejectBytes?.(blob);
  expect(source.mirrors?.()[2]).toMatchObject({ wrongBlobs: 1 });
  expect(origin.seen).toEqual([]);
});
