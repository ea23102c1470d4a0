import { chmod, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { dockerCredentials } from "../../src/registry/docker-credentials.js";
import type { FakeAuth } from "../support/fake-registry.js";
import { makeTempDir } from "../support/temp-dir.js";
import { failureOf, numberedBytes, openSource, readAll, startFake } from "./registry-trial.js";

/** Credentials that change on disk under a mount that is open: found with the next refusal, without opening anything anew. */

const bytes = numberedBytes(1000);

interface Place {
  readonly environment: NodeJS.ProcessEnv;
  /** Puts the password for `host` there. */
  write(host: string, password: string): Promise<void>;
}

const pair = (password: string) => Buffer.from(`reader:${password}`).toString("base64");

async function authFile(file: string, environment: NodeJS.ProcessEnv): Promise<Place> {
  await mkdir(path.dirname(file), { recursive: true });
  return {
    environment,
    write: (host, password) =>
      writeFile(file, JSON.stringify({ auths: { [host]: { auth: pair(password) } } })),
  };
}

const places: Array<[string, (dir: string) => Promise<Place>]> = [
  [
    "docker's config.json",
    (dir) => authFile(path.join(dir, "docker/config.json"), { DOCKER_CONFIG: path.join(dir, "docker") }),
  ],
  [
    "containers' auth.json",
    (dir) =>
      authFile(path.join(dir, "run/containers/auth.json"), {
        XDG_RUNTIME_DIR: path.join(dir, "run"),
        DOCKER_CONFIG: dir,
      }),
  ],
  [
    "$REGISTRY_AUTH_FILE",
    (dir) =>
      authFile(path.join(dir, "auth.json"), {
        REGISTRY_AUTH_FILE: path.join(dir, "auth.json"),
        DOCKER_CONFIG: dir,
      }),
  ],
  [
    "a credential helper",
    async (dir) => {
      const helper = path.join(dir, "docker-credential-rotating");
      await writeFile(helper, `#!/bin/sh\ncat ${dir}/answer\n`);
      await chmod(helper, 0o755);
      await writeFile(path.join(dir, "config.json"), '{"credsStore":"rotating"}');
      return {
        environment: { DOCKER_CONFIG: dir, PATH: `${dir}:${process.env.PATH}` },
        write: (_host, password) =>
          writeFile(path.join(dir, "answer"), JSON.stringify({ Username: "reader", Secret: password })),
      };
    },
  ],
];

const schemes: Array<[string, (password: string) => FakeAuth]> = [
  ["Basic, refused with 401", (password) => ({ kind: "basic", username: "reader", password })],
  ["Bearer, refused with 401", (password) => ({ kind: "bearer", username: "reader", password })],
  [
    "Bearer, refused with 403",
    (password) => ({ kind: "bearer", username: "reader", password, refusal: 403 }),
  ],
];

const cases = places.flatMap(([place, make]) =>
  schemes.map(([scheme, auth]) => [place, scheme, make, auth] as const),
);

test.each(cases)("rotated in %s: %s", async (_place, _scheme, make, auth) => {
  const place = await make(await makeTempDir("rotation"));
  const registry = await startFake(auth("first"));
  const blob = registry.addBlob(bytes);
  await place.write(registry.host, "first");
  const source = openSource(registry, "team/app:v1", { credentials: dockerCredentials(place.environment) });
  const read = async () => (await readAll(source, blob)).equals(bytes);
  expect(await read()).toBe(true);

  // The registry is ahead of the disk: refused, with the disk's credentials and no others.
  registry.auth = auth("second");
  registry.revokeTokens();
  expect((await failureOf(read())).code).toBe("AUTH_FAILED");
  await place.write(registry.host, "second");
  expect(await read()).toBe(true);

  // The disk is ahead of the refusal, as rotation should be.
  registry.auth = auth("third");
  registry.revokeTokens();
  await place.write(registry.host, "third");
  expect(await read()).toBe(true);
});

test("a thousand readers whose token expires at once make one token request and look up credentials once", async () => {
  const registry = await startFake({ kind: "bearer", username: "reader", password: "pw" });
  const blob = registry.addBlob(bytes);
  let lookups = 0;
  const source = openSource(registry, "team/app:v1", {
    credentials: async () => {
      lookups++;
      return { origin: "the test", credentials: { kind: "password", username: "reader", password: "pw" } };
    },
  });
  const readers = (count: number) => Promise.all(Array.from({ length: count }, () => readAll(source, blob)));
  for (const round of [1, 2, 3]) {
    expect((await readers(1000)).every((each) => each.equals(bytes))).toBe(true);
    expect([registry.counters.token, lookups]).toEqual([round, round]);
    registry.revokeTokens();
  }
}, 60_000);
