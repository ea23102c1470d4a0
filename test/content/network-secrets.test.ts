import { expect, test } from "vitest";
import { describeError } from "../../src/base/errors.js";
import type { Logger } from "../../src/base/logger.js";
import type { CredentialLookup } from "../../src/registry/credentials.js";
import { basicHeader } from "../support/fake-registry.js";
import { type FaultScenario, faultScenarios, readerPassword } from "../support/fault-scenarios.js";
import { changes, faults } from "../support/network-faults.js";
import { startNetworkTrial } from "./network-trial.js";
import { readFile } from "./open-content.js";
import { wholeLayer } from "./scanned-layers.js";

/** No secret reaches a log or an error, whatever goes wrong, not even where a server repeats it. */

/** Every secret of the fakes begins with it; the password as it is in a Basic header does not. */
const secret = /secret-/;
const basic = basicHeader("reader", readerPassword).slice("Basic ".length);

/** Keeps what it is told as text, before any output could redact it. */
function capturingLogger(lines: string[]): Logger {
  const log = (level: string) => (first: unknown, second?: unknown) =>
    void lines.push(JSON.stringify({ level, first, second }, (_key, value) => textOfError(value)));
  const logger: Record<string, unknown> = { level: "trace" };
  for (const level of ["trace", "debug", "info", "warn", "error"]) logger[level] = log(level);
  logger.child = () => logger;
  return logger as unknown as Logger;
}

function textOfError(value: unknown): unknown {
  return value instanceof Error ? everythingOf(value) : value;
}

/** All that somebody could print of an error: message, stack, own properties, and the same of its causes. */
function everythingOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = Object.entries(error).map(([name, value]) => `${name}=${String(value)}`);
  return [error.stack, ...own, error.cause === undefined ? "" : everythingOf(error.cause)].join("\n");
}

/** What echoes secrets, beside all faults there are. */
const echoes: FaultScenario[] = [
  {
    name: "echo: the registry repeats the Authorization header",
    auth: { kind: "basic", username: "reader", password: readerPassword },
    lasting: [],
    rule: () => ({
      on: "blob",
      fault: ({ seen, response }) =>
        void response
          .writeHead(400)
          .end(JSON.stringify({ errors: [{ code: "BAD", message: seen.headers.authorization }] })),
    }),
  },
  {
    name: "echo: the registry repeats the token and its own signed URL",
    auth: { kind: "bearer", username: "reader", password: readerPassword },
    lasting: [],
    rule: ({ registry }) => ({
      on: "blob",
      fault: ({ seen, response }) =>
        void response
          .writeHead(500)
          .end(`${seen.headers.authorization} at ${registry.url}/x?X-Amz-Signature=secret-signature-9`),
    }),
  },
  {
    name: "echo: the storage repeats its signed URL",
    storage: true,
    lasting: [],
    rule: ({ storage }) => ({
      on: "storage",
      fault: ({ seen, response }) =>
        void response
          .writeHead(503)
          .end(
            `cannot serve ${storage.url}${seen.path}?X-Amz-Signature=${seen.query.get("X-Amz-Signature")}`,
          ),
    }),
  },
  {
    name: "echo: the storage repeats the signature in XML, without a URL",
    storage: true,
    lasting: [],
    rule: () => ({
      on: "storage",
      fault: ({ seen, response }) =>
        void response
          .writeHead(403)
          .end(`<SignatureProvided>${seen.query.get("X-Amz-Signature")}</SignatureProvided>`),
    }),
  },
  {
    name: "echo: the storage repeats the query alone",
    storage: true,
    lasting: [],
    rule: () => ({
      on: "storage",
      fault: ({ seen, response }) =>
        void response.writeHead(500).end(`bad request: ${seen.query.toString()}`),
    }),
  },
  {
    name: "echo: a header of the answer holds a secret",
    lasting: [],
    rule: () => ({
      on: "blob",
      fault: faults.changed(
        changes.header("content-range", "bytes token=secret-in-range"),
        changes.header("x-secret", "secret-in-header"),
      ),
    }),
  },
  {
    name: "echo: a redirect that cannot be followed holds a secret",
    lasting: [],
    rule: () => ({
      on: "blob",
      fault: faults.redirect(
        "http://user:secret-password@storage.invalid:1/x?X-Amz-Signature=secret-signature",
      ),
    }),
  },
  {
    name: "echo: the realm of a challenge holds a secret",
    lasting: [],
    rule: () => ({
      on: "blob",
      fault: faults.status(401, {
        "www-authenticate": 'Bearer realm="http://user:secret-realm@127.0.0.1:1/token?key=secret-key"',
      }),
    }),
  },
];

const every = [...faultScenarios, ...echoes];

test.concurrent.each(every.map((scenario) => [scenario.name, scenario] as const))(
  "%s",
  async (_, scenario) => {
    const lines: string[] = [];
    const logger = capturingLogger(lines);
    const trial = await startNetworkTrial({
      auth: scenario.auth,
      storage: scenario.storage,
      readDeadlineMs: 400,
      attemptTimeoutMs: 150,
      logger,
    });
    try {
      const read = () => readFile(trial.content, wholeLayer(trial.archive), 0, 100_000);
      const failures: unknown[] = [];
      const attempt = () => read().catch((error: unknown) => failures.push(error));
      await attempt();
      await trial.begin(scenario);
      await Promise.all([attempt(), attempt()]);
      await trial.end(scenario);
      await attempt();
      for (const text of [
        ...lines,
        ...failures.flatMap((error) => [everythingOf(error), describeError(error)]),
      ]) {
        expect(text).not.toMatch(secret);
        expect(text).not.toContain(basic);
      }
    } finally {
      await trial.close();
    }
  },
);

test("credentials that cannot be looked up do not repeat what they hold", async () => {
  const lines: string[] = [];
  const credentials: CredentialLookup = async () => {
    throw new Error('helper said {"Secret":"secret-of-helper"}');
  };
  const trial = await startNetworkTrial({
    auth: { kind: "basic", username: "reader", password: readerPassword },
    readDeadlineMs: 5_000,
    logger: capturingLogger(lines),
    credentials,
  });
  try {
    const failure = await readFile(trial.content, wholeLayer(trial.archive), 0, 10).catch(describeError);
    for (const text of [...lines, failure as string]) expect(text).not.toMatch(secret);
  } finally {
    await trial.close();
  }
});
