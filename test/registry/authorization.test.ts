import { expect, test } from "vitest";
import type { CredentialLookup, Credentials } from "../../src/registry/credentials.js";
import { defaultRetryPolicy } from "../../src/registry/retry.js";
import { basicHeader } from "../support/fake-registry.js";
import { faults } from "../support/network-faults.js";
import { failureOf, numberedBytes, openSource, readAll, startFake } from "./registry-trial.js";

const blobs = /\/blobs\//;
const token = /^\/token$/;
const bytes = numberedBytes(10_000);
const password = (username: string, secret: string): Credentials => ({
  kind: "password",
  username,
  password: secret,
});

/** A lookup that gives what `current` holds at the time, and counts. */
function lookupOf(...answers: Array<Credentials | undefined>) {
  let calls = 0;
  const lookup: CredentialLookup = async () => {
    const credentials = answers[Math.min(calls++, answers.length - 1)];
    return credentials && { credentials, origin: "a test" };
  };
  return { lookup, calls: () => calls };
}

test("Basic credentials are sent from the first request for content on", async () => {
  const registry = await startFake({ kind: "basic", username: "ann", password: "p:ss word" });
  const blob = registry.addBlob(bytes);
  const { lookup, calls } = lookupOf(password("ann", "p:ss word"));
  const source = openSource(registry, undefined, { credentials: lookup });
  for (let i = 0; i < 3; i++) expect((await readAll(source, blob)).equals(bytes)).toBe(true);
  expect(registry.requestsTo(blobs)).toHaveLength(3);
  expect(calls()).toBe(1);
});

test("an anonymous token is enough where the registry gives one, and carries service and scope", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  expect((await readAll(openSource(registry), blob)).equals(bytes)).toBe(true);
  const [request] = registry.requestsTo(token);
  expect(request?.query.get("service")).toBe("fake, the service");
  expect(request?.query.get("scope")).toBe("repository:team/app:pull");
  expect(request?.headers.authorization).toBeUndefined();
  expect(registry.requestsTo(blobs)).toHaveLength(1);
});

test("a password goes to the token service, and the token to the registry", async () => {
  const registry = await startFake({ kind: "bearer", username: "ann", password: "secret-password" });
  const blob = registry.addBlob(bytes);
  const source = openSource(registry, undefined, {
    credentials: lookupOf(password("ann", "secret-password")).lookup,
  });
  await readAll(source, blob);
  expect(registry.requestsTo(token)[0]?.headers.authorization).toBe(basicHeader("ann", "secret-password"));
  expect(registry.requestsTo(blobs)[0]?.headers.authorization).toMatch(/^Bearer secret-token/);
});

test("an identity token is exchanged with a POST", async () => {
  const registry = await startFake({
    kind: "bearer",
    username: "x",
    password: "y",
    identityToken: "secret-identity",
  });
  const blob = registry.addBlob(bytes);
  const { lookup } = lookupOf({ kind: "identityToken", token: "secret-identity" });
  expect((await readAll(openSource(registry, undefined, { credentials: lookup }), blob)).equals(bytes)).toBe(
    true,
  );
  const [request] = registry.requestsTo(token);
  expect(request?.method).toBe("POST");
  const form = new URLSearchParams(request?.body);
  expect(Object.fromEntries(form)).toEqual({
    grant_type: "refresh_token",
    client_id: "skim",
    service: "fake, the service",
    scope: "repository:team/app:pull",
    refresh_token: "secret-identity",
  });
});

test("a registry token is sent as it is", async () => {
  const registry = await startFake({ kind: "bearer", username: "x", password: "y" });
  const blob = registry.addBlob(bytes);
  const { lookup } = lookupOf({ kind: "registryToken", token: "secret-own" });
  await failureOf(readAll(openSource(registry, undefined, { credentials: lookup }), blob));
  expect(registry.requestsTo(blobs)[0]?.headers.authorization).toBe("Bearer secret-own");
  expect(registry.requestsTo(token)).toHaveLength(0);
});

test("a hundred readers at once make one token request and collect no refusals", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  const source = openSource(registry);
  await Promise.all(Array.from({ length: 100 }, () => readAll(source, blob, { start: 5, end: 500 })));
  expect(registry.requestsTo(token)).toHaveLength(1);
  expect(registry.requestsTo(/^\/v2\/$/)).toHaveLength(1);
  expect(registry.requestsTo(blobs)).toHaveLength(100);
});

test("a hundred readers whose token expires at once make one more token request", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  const source = openSource(registry);
  await readAll(source, blob);
  registry.revokeTokens();
  await Promise.all(Array.from({ length: 100 }, () => readAll(source, blob, { start: 5, end: 500 })));
  expect(registry.requestsTo(token)).toHaveLength(2);
});

test("a reader that gives up does not take the token request of the others with it", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  const source = openSource(registry);
  const abort = new AbortController();
  registry.fail(token, ({ next }) => {
    abort.abort();
    setTimeout(next, 50);
  });
  const quitter = failureOf(readAll(source, blob, undefined, { signal: abort.signal }));
  const others = Promise.all(Array.from({ length: 10 }, () => readAll(source, blob)));
  expect((await quitter).code).toBe("CANCELLED");
  for (const read of await others) expect(read.equals(bytes)).toBe(true);
  expect(registry.requestsTo(token)).toHaveLength(1);
});

test.each([401, 403] as const)(
  "a token that has expired (%i) is dropped, and the request made once more",
  async (refusal) => {
    const registry = await startFake({ kind: "bearer", refusal });
    const blob = registry.addBlob(bytes);
    const source = openSource(registry);
    await readAll(source, blob);
    registry.revokeTokens();
    expect((await readAll(source, blob)).equals(bytes)).toBe(true);
    expect(registry.requestsTo(token)).toHaveLength(2);
    expect(registry.requestsTo(blobs)).toHaveLength(3);
  },
);

test("a token is refreshed before it expires, while readers go on with the old one", async () => {
  const registry = await startFake({ kind: "bearer", lifetimeSeconds: 1 });
  const blob = registry.addBlob(bytes);
  const source = openSource(registry);
  await readAll(source, blob);
  await new Promise((resolve) => setTimeout(resolve, 870));
  const answered = new Promise<void>((resolve) => {
    registry.fail(token, ({ next }) => {
      setTimeout(() => {
        next();
        resolve();
      }, 50);
    });
  });
  await readAll(source, blob);
  const used = registry.requestsTo(blobs).map((each) => each.headers.authorization);
  expect(used).toEqual(["Bearer secret-token-1", "Bearer secret-token-1"]);
  await answered;
  await expect
    .poll(async () => {
      await readAll(source, blob);
      return registry.requestsTo(blobs).at(-1)?.headers.authorization;
    })
    .not.toBe("Bearer secret-token-1");
});

test("a token that expires in the middle of a broken body does not end the read", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  registry.fail(blobs, ({ response, socket }) => {
    registry.revokeTokens();
    response.writeHead(200, { "content-length": bytes.length });
    response.write(bytes.subarray(0, 4000), () => setTimeout(() => socket.destroy(), 20));
  });
  expect((await readAll(openSource(registry), blob)).equals(bytes)).toBe(true);
  expect(registry.requestsTo(token)).toHaveLength(2);
});

test("rotated credentials are picked up when the old ones are refused", async () => {
  const registry = await startFake({ kind: "basic", username: "ann", password: "old" });
  const blob = registry.addBlob(bytes);
  const { lookup, calls } = lookupOf(password("ann", "old"), password("ann", "new"));
  const source = openSource(registry, undefined, { credentials: lookup });
  await readAll(source, blob);
  registry.auth = { kind: "basic", username: "ann", password: "new" };
  expect((await readAll(source, blob)).equals(bytes)).toBe(true);
  expect(calls()).toBe(2);
});

test("wrong Basic credentials are AUTH_FAILED after one request, naming where they came from", async () => {
  const registry = await startFake({ kind: "basic", username: "ann", password: "right" });
  const blob = registry.addBlob(bytes);
  const { lookup } = lookupOf(password("ann", "secret-wrong"));
  const error = await failureOf(readAll(openSource(registry, undefined, { credentials: lookup }), blob));
  expect(error.code).toBe("AUTH_FAILED");
  expect(error.message).toMatch(
    /401: UNAUTHORIZED: authentication required; no such image, or .* \(credentials from a test\)/,
  );
  expect(registry.requestsTo(blobs)).toHaveLength(1);
});

test("a wrong password at the token service is AUTH_FAILED and is not tried again", async () => {
  const registry = await startFake({ kind: "bearer", username: "ann", password: "right" });
  const blob = registry.addBlob(bytes);
  const { lookup } = lookupOf(password("ann", "secret-wrong"));
  const error = await failureOf(readAll(openSource(registry, undefined, { credentials: lookup }), blob));
  expect(error.code).toBe("AUTH_FAILED");
  expect(error.message).toMatch(/incorrect username or password; credentials from a test/);
  expect(error.message).not.toContain("secret");
  expect(registry.requestsTo(token)).toHaveLength(1);
});

test("without credentials, AUTH_FAILED says how to log in", async () => {
  for (const auth of [
    { kind: "basic", username: "a", password: "b" },
    { kind: "bearer", username: "a", password: "b" },
  ] as const) {
    const registry = await startFake(auth);
    const error = await failureOf(openSource(registry).resolve());
    expect(error.code).toBe("AUTH_FAILED");
    expect(error.message).toContain(`no credentials; try: docker login ${registry.host}`);
  }
});

test("a repository that the token does not open is AUTH_FAILED with the registry's words", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  registry.fail(
    blobs,
    faults.status(403, {}, '{"errors":[{"code":"DENIED","message":"no pull for you"}]}'),
    99,
  );
  const error = await failureOf(readAll(openSource(registry), blob));
  expect(error.code).toBe("AUTH_FAILED");
  expect(error.message).toContain("DENIED: no pull for you");
  expect(registry.requestsTo(blobs)).toHaveLength(2);
});

test("credentials that cannot be looked up do not stop a public image, and are named where they were needed", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  const credentials: CredentialLookup = async () => {
    throw new Error("docker-credential-x is not on the PATH");
  };
  expect((await readAll(openSource(registry, undefined, { credentials }), blob)).equals(bytes)).toBe(true);
  registry.auth = { kind: "bearer", username: "ann", password: "needed" };
  registry.revokeTokens();
  const error = await failureOf(readAll(openSource(registry, undefined, { credentials }), blob));
  expect(error.code).toBe("AUTH_FAILED");
  expect(error.message).toContain("docker-credential-x is not on the PATH");
});

test("a token service in trouble is asked again, by one loop only", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  registry.fail(token, faults.status(503), 2);
  expect((await readAll(openSource(registry), blob)).equals(bytes)).toBe(true);
  registry.fail(token, faults.status(503), 99);
  const before = registry.requestsTo(token).length;
  const error = await failureOf(readAll(openSource(registry), blob));
  expect(error.code).toBe("REGISTRY_UNAVAILABLE");
  expect(registry.requestsTo(token).length - before).toBe(5);
});

test("a read with a deadline sits out an outage of the token service of more than five failures, one without does not", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  registry.fail(token, faults.status(503), 12);
  const retryPolicy = { ...defaultRetryPolicy, firstDelayMs: 2, delayFactor: 2, delayMsMax: 10 };
  const source = openSource(registry, undefined, { retryPolicy });
  expect((await readAll(source, blob, undefined, { deadlineMs: 30_000 })).equals(bytes)).toBe(true);
  expect(registry.requestsTo(token)).toHaveLength(13);

  registry.revokeTokens();
  registry.fail(token, faults.status(503), Number.POSITIVE_INFINITY);
  expect((await failureOf(source.resolve())).code).toBe("REGISTRY_UNAVAILABLE");
  expect(registry.requestsTo(token)).toHaveLength(13 + 5);
  const late = await failureOf(readAll(source, blob, undefined, { deadlineMs: 3_000 }));
  expect(late.code).toBe("DEADLINE_EXCEEDED");
  expect(late.message).toContain("503");
});

test.each([
  ["no JSON", "<html>"],
  ["no token", "{}"],
  ["a token that is no text", '{"token":7}'],
  ["a token with a line break", '{"token":"a\\r\\nx-evil: 1"}'],
  ["null", "null"],
])("a token service that answers %s is a protocol error", async (_what, body) => {
  const registry = await startFake({ kind: "bearer" });
  registry.fail(token, faults.status(200, {}, body), 99);
  const error = await failureOf(openSource(registry).resolve());
  expect(error.code).toBe("REGISTRY_PROTOCOL");
});

test("credentials are not sent to a token service over plain http beyond loopback", async () => {
  const registry = await startFake({ kind: "bearer", realm: "http://tokens.invalid/token" });
  const { lookup } = lookupOf(password("ann", "secret-password"));
  const error = await failureOf(openSource(registry, undefined, { credentials: lookup }).resolve());
  expect(error.code).toBe("AUTH_FAILED");
  expect(error.message).toContain("--insecure-registry tokens.invalid");
});

test("a token service that redirects elsewhere does not take the password along", async () => {
  const registry = await startFake({ kind: "bearer", username: "ann", password: "right" });
  const thief = await startFake();
  registry.fail(token, faults.redirect(`${thief.url}/steal`), 99);
  const { lookup } = lookupOf(password("ann", "right"));
  await failureOf(openSource(registry, undefined, { credentials: lookup }).resolve());
  expect(thief.seen).toHaveLength(1);
  expect(thief.seen[0]?.headers.authorization).toBeUndefined();
});

test("the placeholder scope in a challenge of /v2/ is not asked for", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  registry.fail(/^\/v2\/$/, ({ response }) => {
    const challenge = `Bearer realm="${registry.url}/token",service="s",scope="repository:user/image:pull"`;
    response.writeHead(401, { "www-authenticate": challenge }).end();
  });
  await readAll(openSource(registry), blob);
  expect(registry.requestsTo(token).map((each) => each.query.get("scope"))).toEqual([
    "repository:team/app:pull",
  ]);
});

test("a registry that challenges only where content is asked for is answered there", async () => {
  const registry = await startFake({ kind: "bearer" });
  const blob = registry.addBlob(bytes);
  registry.fail(/^\/v2\/$/, faults.status(200));
  expect((await readAll(openSource(registry), blob)).equals(bytes)).toBe(true);
  expect(registry.requestsTo(blobs)).toHaveLength(2);
});

test("a scheme that skim does not speak is named", async () => {
  const registry = await startFake();
  registry.fail(/^\/v2\//, faults.status(401, { "www-authenticate": "Negotiate" }), 99);
  const error = await failureOf(openSource(registry).resolve());
  expect(error.code).toBe("AUTH_FAILED");
  expect(error.message).toContain("negotiate");
});

test("secrets that a server repeats are in no error", async () => {
  const registry = await startFake({ kind: "basic", username: "ann", password: "hunter2-secret" });
  const echo = `Authorization: ${basicHeader("ann", "hunter2-secret")}, that is ann:hunter2-secret; password hunter2-secret`;
  registry.fail(blobs, faults.status(403, {}, echo), 99);
  const { lookup } = lookupOf(password("ann", "hunter2-secret"));
  const error = await failureOf(
    readAll(openSource(registry, undefined, { credentials: lookup }), registry.addBlob(bytes)),
  );
  expect(error.code).toBe("AUTH_FAILED");
  const everything = `${error.stack} ${JSON.stringify(error)} ${error.cause}`;
  expect(everything).not.toContain("hunter2-secret");
  expect(everything).not.toContain(basicHeader("ann", "hunter2-secret").slice(6));
});
