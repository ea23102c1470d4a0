import { expect, test } from "vitest";
import { faults } from "../support/network-faults.js";
import { sendRange } from "../support/range-answer.js";
import { failureOf, numberedBytes, openSource, readAll, startFake } from "./registry-trial.js";

const blobs = /\/blobs\//;
const stored = /^\/store\//;
const bytes = numberedBytes(100_000);
const range = { start: 100, end: 200 };
const wanted = bytes.subarray(100, 200);

/** A registry with a token, whose blobs are at another origin. */
async function startWithStorage(status = 307) {
  const registry = await startFake({ kind: "bearer" });
  const storage = await startFake();
  const blob = registry.addBlob(bytes);
  let signature = 0;
  registry.fail(
    blobs,
    ({ seen, response, next }) => {
      if (!seen.headers.authorization) return next();
      response
        .writeHead(status, { location: `${storage.url}/store/x?sig=secret-signature-${++signature}` })
        .end();
    },
    999,
  );
  const serveStored = (times = 999) =>
    storage.fail(stored, ({ seen, response }) => sendRange(response, bytes, seen.headers.range), times);
  return { registry, storage, blob, serveStored };
}

test.each([301, 302, 303, 307, 308])(
  "a %i to another origin is followed with the range and without credentials",
  async (status) => {
    const { registry, storage, blob, serveStored } = await startWithStorage(status);
    serveStored();
    expect((await readAll(openSource(registry), blob, range)).equals(wanted)).toBe(true);
    expect(registry.requestsTo(blobs)[0]?.headers.authorization).toMatch(/^Bearer secret-token-/);
    expect(storage.seen).toHaveLength(1);
    expect(storage.seen[0]?.headers.range).toBe("bytes=100-199");
    expect(storage.seen[0]?.headers.authorization).toBeUndefined();
    expect(storage.seen[0]?.headers.cookie).toBeUndefined();
  },
);

test("the same host on another port is another origin", async () => {
  const { registry, storage, blob, serveStored } = await startWithStorage();
  serveStored();
  expect(new URL(storage.url).hostname).toBe(new URL(registry.url).hostname);
  await readAll(openSource(registry), blob, range);
  expect(storage.seen.every((request) => request.headers.authorization === undefined)).toBe(true);
});

test("credentials go along with a redirect within the registry's own origin", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  registry.fail(
    blobs,
    ({ seen, response, next }) => {
      if (seen.query.has("moved") || !seen.headers.authorization) return next();
      response.writeHead(302, { location: `${seen.path}?moved=1` }).end();
    },
    2,
  );
  expect((await readAll(openSource(registry), blob, range)).equals(wanted)).toBe(true);
});

test("the URL of the storage is used again without asking the registry", async () => {
  const { registry, storage, blob, serveStored } = await startWithStorage();
  const source = openSource(registry);
  serveStored();
  for (let i = 0; i < 5; i++) await readAll(source, blob, range);
  expect(registry.requestsTo(blobs)).toHaveLength(1);
  expect(storage.seen).toHaveLength(5);
});

test.each([400, 401, 403, 404])(
  "an expired storage URL (%i) is dropped and the registry asked once more",
  async (status) => {
    const { registry, storage, blob, serveStored } = await startWithStorage();
    const source = openSource(registry);
    serveStored(1);
    await readAll(source, blob, range);
    storage.fail(stored, faults.status(status, {}, "<Error><Code>ExpiredToken</Code></Error>"));
    serveStored();
    expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
    expect(registry.requestsTo(blobs)).toHaveLength(2);
    expect(storage.seen.map((request) => request.query.get("sig"))).toEqual([
      "secret-signature-1",
      "secret-signature-1",
      "secret-signature-2",
    ]);
  },
);

test("storage that is gone is left for a new redirect", async () => {
  const { registry, storage, blob, serveStored } = await startWithStorage();
  const source = openSource(registry);
  serveStored(1);
  await readAll(source, blob, range);
  storage.fail(stored, faults.reset());
  serveStored();
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  expect(registry.requestsTo(blobs)).toHaveLength(2);
});

test("a storage URL that is refused when it is new is no question of credentials, and its signature is in no error", async () => {
  const { registry, storage, blob } = await startWithStorage();
  storage.fail(
    stored,
    faults.status(403, {}, `denied for ${storage.url}/store/x?sig=secret-signature-1`),
    99,
  );
  const error = await failureOf(readAll(openSource(registry), blob, range));
  expect(error.code).toBe("REGISTRY_UNAVAILABLE");
  expect(error.message).toContain(storage.host);
  expect(error.message).not.toContain("secret");
  expect(registry.requestsTo(/token/)).toHaveLength(1);
});

test.each([
  ["a loop", "SELF"],
  ["no Location", ""],
  ["a scheme that is no HTTP", "file:///etc/passwd"],
  ["a Location that is no URL", "http://[bad"],
])("a redirect with %s is a protocol error", async (_what, location) => {
  const registry = await startFake();
  const blob = registry.addBlob(bytes);
  registry.fail(
    blobs,
    ({ seen, response }) => {
      response.writeHead(302, location ? { location: location === "SELF" ? seen.path : location } : {}).end();
    },
    999,
  );
  const error = await failureOf(readAll(openSource(registry), blob));
  expect(error.code).toBe("REGISTRY_PROTOCOL");
  expect(error.message).toMatch(/redirects/);
});

test("manifests may be redirected too", async () => {
  const registry = await startFake();
  const mirror = await startFake();
  mirror.addImage({ tag: "v1" });
  registry.fail(/./, faults.redirect(`${mirror.url}/v2/`));
  const { layer } = registry.addImage({});
  registry.fail(/manifests/, faults.redirect(`${mirror.url}/v2/team/app/manifests/v1`));
  const image = await openSource(registry)
    .resolve({ platform: { os: "linux", architecture: "amd64" } })
    .catch((e) => e);
  expect(image.layers?.[0]?.size ?? image).toBeDefined();
  expect(layer.size).toBeGreaterThan(0);
});

test("storage that sent wrong bytes is not asked again without the registry's word", async () => {
  const { registry, storage, blob } = await startWithStorage();
  const signatures: (string | null)[] = [];
  storage.fail(
    stored,
    ({ seen, response }) => {
      signatures.push(seen.query.get("sig"));
      const wrong = Buffer.alloc(bytes.length, 0xff);
      const expired = seen.query.get("sig") === "secret-signature-1" && signatures.length > 1;
      sendRange(response, expired ? wrong : bytes, seen.headers.range);
    },
    999,
  );
  const source = openSource(registry);
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(true);
  // Nothing about this answer tells that it is wrong; only who knows the digest does.
  expect((await readAll(source, blob, range)).equals(wanted)).toBe(false);
  expect((await readAll(source, blob, range, { afterDamage: true })).equals(wanted)).toBe(true);
  expect(signatures).toEqual(["secret-signature-1", "secret-signature-1", "secret-signature-2"]);
});
