import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeEach, expect, test } from "vitest";
import type { Credentials } from "../../src/registry/credentials.js";
import { dockerCredentials } from "../../src/registry/docker-credentials.js";
import { makeTempDir } from "../support/temp-dir.js";
import { failureOf } from "./registry-trial.js";

let home: string;
let environment: NodeJS.ProcessEnv;

beforeEach(async () => {
  home = await makeTempDir("credentials");
  await mkdir(path.join(home, "bin"));
  environment = { HOME: home, PATH: `${path.join(home, "bin")}:${process.env.PATH}` };
});

const base64 = (text: string) => Buffer.from(text).toString("base64");
const lookUp = async (registry: string, repository = "team/app") =>
  (await dockerCredentials(environment)(registry, repository))?.credentials;

async function writeConfig(config: object, file = ".docker/config.json"): Promise<void> {
  await mkdir(path.dirname(path.join(home, file)), { recursive: true });
  await writeFile(path.join(home, file), JSON.stringify(config));
}

/** Puts `docker-credential-NAME` on the PATH; `script` is what it does, with the host in $host. */
async function addHelper(name: string, script: string): Promise<void> {
  const file = path.join(home, "bin", `docker-credential-${name}`);
  await writeFile(file, `#!/bin/sh\n[ "$1" = get ] || exit 9\nhost=$(cat)\n${script}\n`);
  await chmod(file, 0o755);
}

test("no file is no credentials", async () => {
  expect(await lookUp("registry.example")).toBeUndefined();
  await writeConfig({});
  expect(await lookUp("registry.example")).toBeUndefined();
});

test("auths hold base64 pairs, plain pairs, identity tokens and registry tokens", async () => {
  await writeConfig({
    auths: {
      "a.example": { auth: base64("ann:pass:word") },
      "b.example": { username: "bob", password: "pw" },
      "c.example": { auth: base64("00000000-0000-0000-0000-000000000000:"), identitytoken: "idt" },
      "d.example": { registrytoken: "rt" },
      "e.example": {},
    },
  });
  expect(await lookUp("a.example")).toEqual({ kind: "password", username: "ann", password: "pass:word" });
  expect(await lookUp("A.Example")).toEqual({ kind: "password", username: "ann", password: "pass:word" });
  expect(await lookUp("b.example")).toEqual({ kind: "password", username: "bob", password: "pw" });
  expect(await lookUp("c.example")).toEqual({ kind: "identityToken", token: "idt" });
  expect(await lookUp("d.example")).toEqual({ kind: "registryToken", token: "rt" });
  expect(await lookUp("e.example")).toBeUndefined();
  expect(await lookUp("evil-a.example")).toBeUndefined();
  expect(await lookUp("a.example:5000")).toBeUndefined();
});

test("Docker Hub is found under docker's old URL and under its names", async () => {
  for (const key of ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"]) {
    await writeConfig({ auths: { [key]: { auth: base64("hub:pw") } } });
    for (const name of ["docker.io", "registry-1.docker.io"]) {
      expect(await lookUp(name)).toEqual({ kind: "password", username: "hub", password: "pw" });
    }
  }
});

test("the most specific key wins: longer repository, host, URL", async () => {
  const user = (name: string) => ({ auth: base64(`${name}:pw`) });
  await writeConfig({
    auths: {
      "https://r.example/v2/": user("url"),
      "r.example": user("host"),
      "r.example/team": user("team"),
      "r.example/team/app": user("app"),
      "https://only-url.example": user("url"),
    },
  });
  const name = async (registry: string, repository: string) =>
    ((await lookUp(registry, repository)) as Extract<Credentials, { kind: "password" }>).username;
  expect(await name("r.example", "team/app")).toBe("app");
  expect(await name("r.example", "team/app/sub")).toBe("app");
  expect(await name("r.example", "team/app2")).toBe("team");
  expect(await name("r.example", "teams/x")).toBe("host");
  expect(await name("only-url.example", "x")).toBe("url");
});

test("$DOCKER_CONFIG, $REGISTRY_AUTH_FILE and containers' auth.json are looked at, in this order of precedence", async () => {
  const auths = (name: string, ...hosts: string[]) => ({
    auths: Object.fromEntries(hosts.map((host) => [host, { auth: base64(`${name}:pw`) }])),
  });
  await writeConfig(auths("home", "a.example"));
  await writeConfig(auths("docker", "a.example", "b.example"), "docker/config.json");
  await writeConfig(auths("podman", "a.example", "b.example", "c.example"), "run/containers/auth.json");
  await writeConfig(auths("named", "a.example"), "named.json");
  const users = async () =>
    await Promise.all(
      ["a.example", "b.example", "c.example"].map(async (host) => {
        const found = await lookUp(host);
        return found?.kind === "password" ? found.username : undefined;
      }),
    );
  expect(await users()).toEqual(["home", undefined, undefined]);
  environment.DOCKER_CONFIG = path.join(home, "docker");
  environment.XDG_RUNTIME_DIR = path.join(home, "run");
  expect(await users()).toEqual(["docker", "docker", "podman"]);
  environment.REGISTRY_AUTH_FILE = path.join(home, "named.json");
  expect(await users()).toEqual(["named", "docker", "podman"]);
});

test("a file that changes is read again", async () => {
  const lookup = dockerCredentials(environment);
  await writeConfig({ auths: { "a.example": { auth: base64("ann:old") } } });
  expect((await lookup("a.example", "x"))?.credentials).toMatchObject({ password: "old" });
  await writeConfig({ auths: { "a.example": { auth: base64("ann:new") } } });
  expect((await lookup("a.example", "x"))?.credentials).toMatchObject({ password: "new" });
});

test("a file that is not JSON is AUTH_FAILED, naming the file and not its content", async () => {
  await mkdir(path.join(home, ".docker"));
  await writeFile(path.join(home, ".docker/config.json"), '{"auths":{"a.example":{"auth":"c2VjcmV0"');
  const error = await failureOf(lookUp("a.example"));
  expect(error.code).toBe("AUTH_FAILED");
  expect(error.message).toContain(path.join(home, ".docker/config.json"));
  expect(`${error.stack}${error.cause}`).not.toContain("c2VjcmV0");
});

test("an auth that is no user:password is AUTH_FAILED, and not repeated", async () => {
  await writeConfig({ auths: { "a.example": { auth: "????" } } });
  const error = await failureOf(lookUp("a.example"));
  expect(error.message).toContain('auths["a.example"]');
});

test("a helper is asked for its host on standard input", async () => {
  await addHelper("vault", 'printf \'{"ServerURL":"%s","Username":"%s","Secret":"pw"}\' "$host" "$host"');
  await writeConfig({ credHelpers: { "a.example": "vault", "docker.io": "vault" } });
  expect(await lookUp("a.example")).toEqual({ kind: "password", username: "a.example", password: "pw" });
  expect(await lookUp("b.example")).toBeUndefined();
  expect(await lookUp("docker.io")).toMatchObject({ username: "https://index.docker.io/v1/" });
  expect((await dockerCredentials(environment)("a.example", "x"))?.origin).toBe("docker-credential-vault");
});

test("credsStore is asked for every host, and credHelpers go before it", async () => {
  await addHelper("store", 'printf \'{"Username":"store","Secret":"pw"}\'');
  await addHelper("own", 'printf \'{"Username":"<token>","Secret":"idt"}\'');
  await writeConfig({ credsStore: "store", credHelpers: { "a.example": "own" }, auths: { "b.example": {} } });
  expect(await lookUp("a.example")).toEqual({ kind: "identityToken", token: "idt" });
  expect(await lookUp("b.example")).toEqual({ kind: "password", username: "store", password: "pw" });
});

test("a helper that has none leaves the word to auths, and else to nobody", async () => {
  await addHelper("empty", "echo 'credentials not found in native keychain'; exit 1");
  await writeConfig({ credsStore: "empty", auths: { "a.example": { auth: base64("ann:pw") } } });
  expect(await lookUp("a.example")).toMatchObject({ username: "ann" });
  expect(await lookUp("b.example")).toBeUndefined();
});

test.each([
  ["fails", "echo 'secret-xyz: vault sealed'; exit 1", /failed for a.example with exit code 1/],
  ["answers nonsense", "echo secret-xyz", /no Username and Secret/],
  ["answers null", "echo null", /no Username and Secret/],
  ["prints without end", "yes secret-xyz", /printed more than/],
])("a helper that %s is AUTH_FAILED, and what it printed is not repeated", async (_what, script, message) => {
  await addHelper("odd", script);
  await writeConfig({ credsStore: "odd" });
  const error = await failureOf(lookUp("a.example"));
  expect(error.code).toBe("AUTH_FAILED");
  expect(error.message).toMatch(message);
  expect(`${error.stack}${error.cause}`).not.toContain("secret-xyz");
});

test("a helper that is missing is named; plain auths are used all the same", async () => {
  await writeConfig({ credsStore: "nowhere", auths: { "b.example": { auth: base64("bob:pw") } } });
  const error = await failureOf(lookUp("a.example"));
  expect(error.code).toBe("AUTH_FAILED");
  expect(error.message).toContain("docker-credential-nowhere is not on the PATH");
  expect(await lookUp("b.example")).toMatchObject({ username: "bob" });
});

test("a helper's name cannot be a path", async () => {
  await writeConfig({ credsStore: "../../tmp/x" });
  expect((await failureOf(lookUp("a.example"))).message).toContain("not a name of a program");
});

test("a helper that hangs is ended with the caller", async () => {
  const mark = path.join(home, "pid");
  await addHelper("hang", `echo $$ > ${mark}.new; mv ${mark}.new ${mark}; exec sleep 600`);
  await writeConfig({ credsStore: "hang" });
  const abort = new AbortController();
  const lookup = dockerCredentials(environment)("a.example", "x", abort.signal);
  const outcome = expect(lookup).rejects.toThrow("enough");
  await expect.poll(() => existsSync(mark)).toBe(true);
  const pid = Number(await readFile(mark, "utf8"));
  abort.abort(new Error("enough"));
  await outcome;
  await expect.poll(() => existsSync(`/proc/${pid}`)).toBe(false);
});
