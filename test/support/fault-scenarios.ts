import type { ErrorCode } from "../../src/base/errors.js";
import { basicHeader, type FakeAuth, type FakeRegistry } from "./fake-registry.js";
import { expiredAnswers, type FakeStorage } from "./fake-storage.js";
import type { Fault, FaultRule } from "./fault-script.js";
import { changes, faults } from "./network-faults.js";

/**
 * What registries, storage and the network between do wrong, each with what a reader may get meanwhile. Whatever it is, three things hold: a
 * reader gets the right bytes or an error, it gets one of them within its deadline, and when the fault is gone it gets the right bytes
 * again from what is open already.
 */
export interface FaultWorld {
  readonly registry: FakeRegistry;
  /** Where the registry's blobs are, if the scenario says so. */
  readonly storage: FakeStorage;
  /** The blob that is read. */
  readonly blob: Buffer;
}

export type Outcome = "right" | ErrorCode;

export interface FaultScenario {
  readonly name: string;
  readonly auth?: FakeAuth;
  readonly storage?: boolean;
  /** What goes wrong with a request; each of its kind, as long as the fault lasts. */
  rule?(world: FaultWorld): Pick<FaultRule, "on" | "fault">;
  /** What changes beside that when the fault begins and when it ends. */
  begin?(world: FaultWorld): void | Promise<void>;
  end?(world: FaultWorld): void | Promise<void>;
  /** What reads may come to while it lasts. */
  readonly lasting: readonly Outcome[];
  /** What a read comes to that meets it once. Default: the right bytes. */
  readonly once?: Outcome;
}

export const readerPassword = "secret-password";
export const bearerAuth: FakeAuth = { kind: "bearer", username: "reader", password: readerPassword };
const outage: readonly Outcome[] = ["DEADLINE_EXCEEDED", "REGISTRY_UNAVAILABLE"];
const nonsense: readonly Outcome[] = ["REGISTRY_PROTOCOL", "DEADLINE_EXCEEDED"];
const damage: readonly Outcome[] = ["DIGEST_MISMATCH", "DEADLINE_EXCEEDED"];
const right: readonly Outcome[] = ["right"];

type Parts = Partial<Omit<FaultScenario, "name" | "lasting" | "rule">>;

/** A fault of each request for a blob. */
function blobs(name: string, fault: Fault, lasting: readonly Outcome[], parts: Parts = {}): FaultScenario {
  return { name, lasting, rule: () => ({ on: "blob", fault }), ...parts };
}

/** A fault of each request to the storage. */
function stored(name: string, fault: Fault, lasting: readonly Outcome[], parts: Parts = {}): FaultScenario {
  return { name, lasting, storage: true, rule: () => ({ on: "storage", fault }), ...parts };
}

/** A fault of each request for a token, when the one that readers had is not good any more. */
function tokens(name: string, fault: Fault, lasting: readonly Outcome[], parts: Parts = {}): FaultScenario {
  return {
    name: `token service: ${name}`,
    auth: bearerAuth,
    lasting,
    rule: () => ({ on: "token", fault }),
    begin: ({ registry }) => registry.revokeTokens(),
    ...parts,
  };
}

/** The token expires in the middle of things, and the challenge is written in another way. */
function challenged(name: string, make: (world: FaultWorld) => string | string[]): FaultScenario {
  return {
    name: `challenge: ${name}`,
    auth: bearerAuth,
    lasting: right,
    begin: (world) => {
      world.registry.auth = { ...bearerAuth, challenge: make(world) } as FakeAuth;
      world.registry.revokeTokens();
    },
    end: ({ registry }) => {
      registry.auth = bearerAuth;
    },
  };
}

const json = { "content-type": "application/json" };
const inAnHour = () => new Date(Date.now() + 3_600_000).toUTCString();
const inASecond = () => new Date(Date.now() + 1000).toUTCString();

const authorization: FaultScenario[] = [
  {
    name: "401 with a Basic challenge, from one moment to the next",
    lasting: right,
    begin: ({ registry }) => {
      registry.auth = { kind: "basic", username: "reader", password: readerPassword };
    },
    end: ({ registry }) => {
      registry.auth = { kind: "none" };
    },
  },
  {
    name: "401 with a Bearer challenge, from one moment to the next",
    lasting: right,
    begin: ({ registry }) => {
      registry.auth = bearerAuth;
    },
    end: ({ registry }) => {
      registry.auth = { kind: "none" };
    },
  },
  {
    name: "the password is not good any more",
    auth: { kind: "basic", username: "reader", password: readerPassword },
    lasting: ["AUTH_FAILED"],
    begin: ({ registry }) => {
      registry.auth = { kind: "basic", username: "reader", password: "another" };
    },
    end: ({ registry }) => {
      registry.auth = { kind: "basic", username: "reader", password: readerPassword };
    },
  },
  {
    name: "401 for a token that has expired",
    auth: bearerAuth,
    lasting: right,
    begin: ({ registry }) => registry.revokeTokens(),
  },
  {
    name: "403 for a token that has expired, as ECR says it",
    auth: { ...bearerAuth, refusal: 403 } as FakeAuth,
    lasting: right,
    begin: ({ registry }) => registry.revokeTokens(),
  },
  blobs("every token is refused", faults.status(401, { "www-authenticate": 'Basic realm="x"' }), [
    "AUTH_FAILED",
  ]),
  blobs(
    "403 without a challenge",
    faults.status(403, json, '{"errors":[{"code":"DENIED"}]}'),
    ["AUTH_FAILED"],
    {
      once: "AUTH_FAILED",
    },
  ),
  challenged(
    "upper case",
    ({ registry }) => `BEARER REALM="${registry.url}/token",SERVICE="fake, the service"`,
  ),
  challenged(
    "lower case, unquoted, with spaces",
    ({ registry }) => `bearer   realm = ${registry.url}/token ,  service = fake`,
  ),
  challenged(
    "several in one header",
    ({ registry }) =>
      `Negotiate oYG2MIGz==, Digest realm="a, b", nonce="Bearer realm=x", Bearer error="x", realm="${registry.url}/token"`,
  ),
  challenged("several headers", ({ registry }) => [
    'Basic realm="first"',
    `Bearer realm="${registry.url}/token",service="fake"`,
  ]),
  tokens("500", faults.status(500, json, '{"details":"try later"}'), outage),
  tokens("429", faults.status(429, { "retry-after": "3600" }), outage, { once: "REGISTRY_UNAVAILABLE" }),
  tokens("is gone", faults.reset(), outage),
  tokens("is silent", faults.silence(), outage),
  tokens("invalid JSON", faults.status(200, json, '{"token": "secret-half'), nonsense),
  tokens("HTML", faults.status(200, {}, "<html>sign in</html>"), nonsense),
  tokens("an empty token", faults.status(200, json, '{"token":""}'), nonsense),
  tokens("a token that is no string", faults.status(200, json, '{"token":{"a":1}}'), nonsense),
  tokens("a token with a line break", faults.status(200, json, '{"token":"secret-a\\r\\nx: y"}'), nonsense),
  tokens("refuses", faults.status(401, json, '{"details":"no"}'), ["AUTH_FAILED"], { once: "AUTH_FAILED" }),
  tokens("404", faults.status(404), ["REGISTRY_PROTOCOL"], { once: "REGISTRY_PROTOCOL" }),
  tokens(
    "access_token instead of token",
    ({ answer, response }) => {
      const { token } = JSON.parse(answer.body.toString()) as { token: string };
      response.writeHead(200, json).end(JSON.stringify({ access_token: token, expires_in: 60 }));
    },
    right,
  ),
  tokens(
    "echoes the password in its refusal",
    faults.status(403, json, JSON.stringify({ details: `bad ${basicHeader("reader", readerPassword)}` })),
    ["AUTH_FAILED"],
    { once: "AUTH_FAILED" },
  ),
];

const redirects: FaultScenario[] = [
  ...Object.entries(expiredAnswers).map(
    ([name, expired]): FaultScenario => ({
      name: `redirects: the URL of the storage has expired, ${name} (${expired.status})`,
      storage: true,
      lasting: right,
      begin: ({ storage }) => {
        storage.expired = expired;
        storage.expireUrls();
      },
    }),
  ),
  stored("storage: 400 for each URL", faults.status(400, {}, expiredAnswers.s3.body), outage),
  stored("storage: 403 for each URL", faults.status(403), outage),
  stored("storage: 404 for each URL", faults.status(404), ["NOT_FOUND"], { once: "right" }),
  stored("storage: 503", faults.status(503, {}, "<Error><Code>SlowDown</Code></Error>"), outage),
  stored("storage: reset", faults.reset(), outage),
  stored("storage: flipped byte", faults.changed(changes.flippedByte()), ["right", ...damage]),
  stored("storage: silent", faults.silence(), outage),
  blobs(
    "redirects: in a circle",
    ({ seen, response }) => {
      response.writeHead(307, { location: seen.path }).end();
    },
    nonsense,
  ),
  blobs("redirects: without a Location", faults.status(307), nonsense),
  blobs("redirects: to ftp", faults.redirect("ftp://storage.invalid/x"), nonsense),
  blobs("redirects: to nowhere", faults.redirect("http://127.0.0.1:1/x"), outage),
  blobs("redirects: 304", faults.status(304), nonsense),
  blobs(
    "redirects: a relative Location",
    ({ seen, response, next }) => {
      if (seen.query.has("moved")) return next();
      response.writeHead(302, { location: `./${seen.path.split("/").at(-1)}?moved=1` }).end();
    },
    right,
  ),
  blobs(
    "redirects: with credentials in the URL",
    ({ seen, response, next }) => {
      if (seen.query.has("moved")) return next();
      const { host } = seen.headers;
      response.writeHead(302, { location: `http://user:secret-in-url@${host}${seen.path}?moved=1` }).end();
    },
    right,
  ),
];

const ranges: FaultScenario[] = [
  {
    name: "a 200 with the whole blob for a range",
    lasting: right,
    rule: ({ blob }) => ({ on: "blob", fault: faults.changed(changes.wholeBlob(blob)) }),
  },
  {
    name: "bytes of another place under the right Content-Range",
    lasting: [...damage, "right"],
    rule: ({ blob }) => ({ on: "blob", fault: faults.changed(changes.shiftedRange(blob)) }),
  },
  blobs(
    "a Content-Range of another place",
    faults.changed(changes.header("content-range", "bytes 7-9/1000")),
    nonsense,
  ),
  blobs("no Content-Range", faults.changed(changes.header("content-range", undefined)), nonsense),
  blobs("a Content-Range that is none", faults.changed(changes.header("content-range", "bytes x")), nonsense),
  blobs("no Content-Type", faults.changed(changes.header("content-type", undefined)), right),
  blobs("a Content-Type of HTML", faults.changed(changes.header("content-type", "text/html")), right),
  blobs("416", faults.status(416, { "content-range": "bytes */5" }), nonsense),
  blobs("several parts", faults.changed(changes.multipart()), nonsense),
  blobs(
    "more than was asked for, and a Content-Range that says so",
    faults.changed(
      changes.body((body) => Buffer.concat([body, Buffer.alloc(10)])),
      (answer, seen) => {
        const [start, last] = /=(\d+)-(\d+)/
          .exec(seen.headers.range ?? "=0-0")!
          .slice(1)
          .map(Number);
        return changes.header("content-range", `bytes ${start}-${last! + 10}/*`)(answer, seen);
      },
    ),
    nonsense,
  ),
  blobs(
    "more than was asked for, in chunks, under the right Content-Range",
    faults.changed(
      changes.body((body) => Buffer.concat([body, Buffer.alloc(100_000)])),
      changes.header("content-length", undefined),
    ),
    right,
  ),
  blobs(
    "a Content-Length that contradicts the Content-Range",
    faults.changed(changes.body((body) => body.subarray(1))),
    nonsense,
  ),
  blobs("a page of a portal", faults.status(200, { "content-type": "text/html" }, "<html>pay here</html>"), [
    ...nonsense,
    ...damage,
  ]),
  blobs("204", faults.status(204), nonsense),
  blobs("an empty 206", faults.changed(changes.body(() => Buffer.alloc(0))), nonsense),
  blobs("404, and then it is there", faults.status(404), ["NOT_FOUND"], { once: "NOT_FOUND" }),
  blobs("410", faults.status(410), ["NOT_FOUND"], { once: "NOT_FOUND" }),
  blobs("451", faults.status(451), ["REGISTRY_PROTOCOL"], { once: "REGISTRY_PROTOCOL" }),
];

const trouble: FaultScenario[] = [
  {
    name: "HEAD is forbidden",
    lasting: right,
    rule: () => ({ on: (seen) => seen.method === "HEAD", fault: faults.status(403) }),
  },
  {
    name: "/v2/ is in trouble",
    lasting: right,
    rule: () => ({ on: "version", fault: faults.status(503) }),
  },
  {
    name: "/v2/ is forbidden",
    lasting: right,
    rule: () => ({ on: "version", fault: faults.status(403) }),
  },
  blobs("429 with Retry-After in seconds", faults.status(429, { "retry-after": "1" }), outage),
  blobs(
    "429 with Retry-After as a date",
    ({ response }) => {
      response.writeHead(429, { "retry-after": inASecond() }).end();
    },
    outage,
  ),
  blobs(
    "429 for an hour",
    ({ response }) => {
      response.writeHead(429, { "retry-after": inAnHour() }).end();
    },
    outage,
    { once: "REGISTRY_UNAVAILABLE" },
  ),
  blobs("429 with a Retry-After that is none", faults.status(429, { "retry-after": "soon" }), outage),
  blobs("500", faults.status(500), outage),
  blobs("502 with a page of HTML", faults.status(502, {}, "<html>bad gateway</html>"), outage),
  blobs("504", faults.status(504), outage),
  blobs(
    "503 with a body that never ends",
    ({ response }) => {
      response.writeHead(503);
      response.write("wait");
    },
    outage,
  ),
  blobs(
    "a burst of different failures",
    faults.inTurn(faults.status(500), faults.reset(), faults.status(503)),
    outage,
  ),
];

const connection: FaultScenario[] = [
  blobs("reset before the answer", faults.reset(), outage),
  blobs("reset in the middle of the body", faults.resetInBody(), ["right", ...outage]),
  blobs("a short body", faults.shortBody(), ["right", ...outage, ...nonsense]),
  blobs(
    "a short body in chunks that ends in order",
    faults.changed(
      changes.body((body) => body.subarray(0, body.length - 1)),
      changes.header("content-length", undefined),
    ),
    ["right", ...outage, ...nonsense],
  ),
  blobs("one byte now and then", faults.drip({ bytes: 1, everyMs: 50 }), outage, {
    once: "DEADLINE_EXCEEDED",
  }),
  blobs("no answer at all", faults.silence(), outage),
  blobs("a header and then nothing", faults.silentBody(), outage),
  blobs(
    "half a body and then nothing",
    ({ response, answer }) => {
      response.writeHead(answer.status, answer.headers);
      response.write(answer.body.subarray(0, answer.body.length >> 1));
    },
    ["right", ...outage],
  ),
  blobs("chunks without a length", faults.changed(changes.header("content-length", undefined)), right),
  blobs("HTTP/1.0, closed at the end", faults.http10(), right),
  blobs("closed after each answer", faults.changed(changes.header("connection", "close")), right),
  blobs("garbage in place of HTTP", faults.raw("\u0000\u0001garbage\r\n\r\n"), outage),
  blobs("another protocol", faults.raw("SSH-2.0-OpenSSH_9.2\r\n"), outage),
  blobs(
    "a header that never ends",
    ({ socket }) => {
      socket.write("HTTP/1.1 206 Partial Content\r\n");
      const timer = setInterval(() => socket.write(`x-filler: ${"x".repeat(4000)}\r\n`), 5);
      socket.on("close", () => clearInterval(timer));
    },
    outage,
  ),
  blobs(
    "two Content-Lengths",
    faults.raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    outage,
  ),
  blobs(
    "early hints before the answer",
    ({ response, next }) => response.writeEarlyHints({ link: "</x>; rel=preload" }, next),
    right,
  ),
  {
    name: "connection refused",
    lasting: outage,
    begin: ({ registry }) => registry.close(),
    end: ({ registry }) => registry.listen(),
  },
  {
    name: "storage: connection refused",
    storage: true,
    lasting: outage,
    begin: ({ storage }) => storage.close(),
    end: ({ storage }) => storage.listen(),
  },
];

const lies: FaultScenario[] = [
  // Spans before it are right.
  blobs("a flipped byte", faults.changed(changes.flippedByte()), ["right", ...damage]),
  blobs("another blob in its place", faults.changed(changes.otherBytes()), damage),
  blobs("gzip against the request", faults.changed(changes.header("content-encoding", "gzip")), nonsense),
  blobs("two encodings", faults.changed(changes.header("content-encoding", ["gzip", "br"])), nonsense),
];

export const faultScenarios: readonly FaultScenario[] = [
  ...authorization,
  ...redirects,
  ...ranges,
  ...trouble,
  ...connection,
  ...lies,
];
