import { createHash, randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { engines } from "../support/engines.js";
import { FakeRegistry } from "../support/fake-registry.js";
import { FakeStorage } from "../support/fake-storage.js";
import { bearerAuth, faultScenarios, readerPassword } from "../support/fault-scenarios.js";
import { run } from "../support/fuse-mount.js";
import { faults } from "../support/network-faults.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

/** The faults of fault-scenarios.ts under a real mount: readers in other processes get the right bytes or EIO, and the mount stays. */

const fileBytes = 300_000;
const readersEach = 3;
const met = [
  "401 for a token that has expired",
  "redirects: the URL of the storage has expired, s3 (400)",
  "redirects: the URL of the storage has expired, azure (403)",
  "redirects: the URL of the storage has expired, gone (410)",
  "storage: flipped byte",
  "storage: 404 for each URL",
  "storage: 503",
  "storage: silent",
  "storage: connection refused",
  "token service: an empty token",
  "token service: 500",
].map((name) => faultScenarios.find((scenario) => scenario.name === name) ?? fail(name));

function fail(name: string): never {
  throw new Error(`no scenario ${name}`);
}

/** `sha256sum` of a file in a process of its own: its digest, or EIO. */
async function digestThrough(file: string): Promise<string> {
  const { code, stdout, stderr } = await run("sha256sum", [file]);
  if (code === 0) return stdout.split(" ")[0]!;
  expect(stderr).toContain("Input/output error");
  return "EIO";
}

/** Reads again after EIO: deadlines are short here, and the machine may be busy. */
async function digestInTime(file: string): Promise<string> {
  for (;;) {
    const digest = await digestThrough(file);
    if (digest !== "EIO") return digest;
  }
}

const digestOfBytes = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

describe.each(engines)("a mount on a bad network, with engine %s", (engine) => {
  let registry: FakeRegistry;
  let storage: FakeStorage;
  let host: SkimHost;
  let mountpoint: string;
  let mounted: { id: string; log: string };
  let environment: NodeJS.ProcessEnv;
  let files: Buffer[];
  let layer: Buffer;
  let unread = 0;

  beforeAll(async () => {
    files = Array.from({ length: met.length * readersEach + 8 }, () => randomBytes(fileBytes));
    layer = buildTar(files.map((content, i) => ({ path: `file-${i}`, content })));
    storage = await FakeStorage.start();
    registry = await FakeRegistry.start(bearerAuth);
    registry.redirectTo(storage);
    registry.addImage({ tag: "v1", layer });
    const dir = await makeTempDir("bad-network");
    const auth = Buffer.from(`reader:${readerPassword}`).toString("base64");
    await mkdir(path.join(dir, "docker"));
    await writeFile(
      path.join(dir, "docker/config.json"),
      JSON.stringify({ auths: { [registry.host]: { auth } } }),
    );
    environment = {
      DOCKER_CONFIG: path.join(dir, "docker"),
      SKIM_SPAN_BYTES: "65536",
      // Each of the two reads that the kernel makes for one reader gets half.
      SKIM_READ_DEADLINE_MS: "3000",
      SKIM_ATTEMPT_TIMEOUT_MS: "400",
    };
    host = await makeSkimHost();
    mountpoint = await makeTempDir("mnt");
    // Nothing ahead: what a fault must keep from a reader must not have come before it.
    const how = ["--engine", engine, "--prefetch", "none"];
    const args = ["mount", ...how, `${registry.host}/team/app:v1`, mountpoint, "--json"];
    mounted = JSON.parse(await host.ok(args, { env: environment }));
  });

  afterAll(async () => {
    await host.ok(["umount", mountpoint]);
    expect(await host.leftovers()).toEqual([]);
    await registry.close();
    await storage.close();
  });

  const nextFile = () => {
    const number = unread++;
    return { file: path.join(mountpoint, `file-${number}`), digest: digestOfBytes(files[number]!) };
  };

  it.each(met.map((scenario) => [scenario.name, scenario] as const))("%s", async (_, scenario) => {
    const world = { registry, storage, blob: layer };
    const reads = Array.from({ length: readersEach }, nextFile);
    await scenario.begin?.(world);
    // Whoever has a URL of the storage asks nobody for a token.
    if (scenario.name.startsWith("token service")) storage.expireUrls();
    const rule = scenario.rule?.(world);
    const server = rule?.on === "storage" ? storage : registry;
    if (rule) server.script.add({ ...rule, times: Number.POSITIVE_INFINITY });
    const mayFail = scenario.lasting.some((outcome) => outcome !== "right");
    const read = mayFail ? digestThrough : digestInTime;
    const outcomes = await Promise.all(reads.map(({ file }) => read(file)));
    const mayBeRight = !mayFail || scenario.lasting.includes("right");
    for (const [i, outcome] of outcomes.entries()) {
      const allowed = [...(mayFail ? ["EIO"] : []), ...(mayBeRight ? [reads[i]!.digest] : [])];
      expect(allowed).toContain(outcome);
    }
    for (const each of [registry, storage]) each.script.clear();
    await scenario.end?.(world);
    for (const { file, digest } of reads) expect(await digestInTime(file)).toBe(digest);
  });

  it("lists and shows what it has read with everything gone, and reads on when it is back", async () => {
    const [read, other] = [nextFile(), nextFile()];
    expect(await digestInTime(read.file)).toBe(read.digest);
    await registry.close();
    await storage.close();
    const listed = await run("find", [mountpoint, "-type", "f", "-printf", "%s\\n"]);
    expect(listed.stdout.trim().split("\n")).toEqual(files.map(() => String(fileBytes)));
    expect(await digestThrough(read.file)).toBe(read.digest);
    expect(await digestThrough(other.file)).toBe("EIO");
    await registry.listen();
    await storage.listen();
    expect(await digestInTime(other.file)).toBe(other.digest);
  });

  it("has told its log what went wrong, and no secret", async () => {
    const log = await readFile(mounted.log, "utf8");
    expect(log).toMatch(/registry attempt failed/);
    expect(log).toMatch(/bytes from the registry are not those of the layer/);
    expect(log).not.toMatch(/secret-/);
    const statistics = await host.run(["stats", mounted.id, "--json"]);
    expect(statistics.stdout).toContain(registry.host);
    expect(statistics.stdout + statistics.stderr).not.toMatch(/secret-/);
  });
});

describe("a mount with mirrors", () => {
  it("is made and read from a mirror alone, moves on to the next one, and keeps the origin's name", async () => {
    const content = [randomBytes(fileBytes), randomBytes(fileBytes), randomBytes(fileBytes)];
    const layer = buildTar(content.map((bytes, i) => ({ path: `file-${i}`, content: bytes })));
    const servers = [await FakeRegistry.start(), await FakeRegistry.start(), await FakeRegistry.start()];
    const [origin, first, second] = servers as [FakeRegistry, FakeRegistry, FakeRegistry];
    for (const server of servers) server.addImage({ tag: "v1", layer });
    const host = await makeSkimHost();
    const mountpoint = await makeTempDir("mnt");
    const config = path.join(await makeTempDir("config"), "config.json");
    await writeFile(
      config,
      JSON.stringify({ spanBytes: 65536, mirrors: { [origin.host]: [first.url, second.url] } }),
    );
    const image = `${origin.host}/team/app:v1`;
    const digest = async (file: number) => await digestThrough(path.join(mountpoint, `file-${file}`));
    try {
      await origin.close();
      await host.ok(["mount", "--config", config, "--prefetch", "none", image, mountpoint]);
      try {
        expect(await digest(0)).toBe(digestOfBytes(content[0]!));
        expect([origin.seen.length, second.seen.length]).toEqual([0, 0]);
        expect(await host.json(["ps"])).toMatchObject([
          { reference: expect.stringContaining(`${origin.host}/team/app`) },
        ]);
        first.script.add({ on: "blob", fault: faults.status(500), times: Number.POSITIVE_INFINITY });
        expect(await digest(1)).toBe(digestOfBytes(content[1]!));
        expect(second.counters.blob).toBeGreaterThan(0);
        await second.close();
        await origin.listen();
        expect(await digest(2)).toBe(digestOfBytes(content[2]!));
        expect(origin.counters.blob).toBeGreaterThan(0);
      } finally {
        await host.ok(["umount", mountpoint]);
      }
      expect(await host.leftovers()).toEqual([]);
    } finally {
      for (const server of servers) await server.close();
    }
  });

  it("gets right what two mirrors have wrong, also where a layer is read whole", async () => {
    const servers = [await FakeRegistry.start(), await FakeRegistry.start(), await FakeRegistry.start()];
    const [origin, ...mirrors] = servers as [FakeRegistry, ...FakeRegistry[]];
    const content = randomBytes(fileBytes).toString("hex");
    const layer = buildTar([{ path: "file", content }]);
    for (const server of servers) {
      const image = server.addImage({ tag: "v1", layer });
      if (server === mirrors[0]) server.replaceBlob(image.layer.digest, Buffer.alloc(layer.length, "x"));
      // A tar all the same, but another one.
      const other = buildTar([{ path: "file", content: randomBytes(fileBytes) }]);
      if (server === mirrors[1]) server.replaceBlob(image.layer.digest, other);
    }
    const image = `${origin.host}/team/app:v1`;
    const env = { SKIM_MIRRORS: `${origin.host}=${mirrors.map(({ url }) => url).join(",")}` };
    const dir = await makeTempDir("unpacked");
    try {
      for (const mode of ["copy", "extract"]) {
        const host = await makeSkimHost();
        await host.ok(["unpack", "--mode", mode, image, path.join(dir, mode)], { env });
        expect((await readFile(path.join(dir, mode, "file"), "utf8")) === content).toBe(true);
      }
      const host = await makeSkimHost();
      await host.ok(["index", image], { env });
      expect((await host.ok(["cat", image, "/file"], { env })) === content).toBe(true);
      expect(origin.counters.manifest).toBe(0);
      expect(mirrors.map(({ counters }) => counters.blob > 0)).toEqual([true, true]);
    } finally {
      for (const server of servers) await server.close();
    }
  });

  it("is what --mirror says, for every command that asks a registry", async () => {
    const [origin, mirror] = [await FakeRegistry.start(), await FakeRegistry.start()];
    const layer = buildTar([{ path: "hello", content: "hello\n" }]);
    for (const server of [origin, mirror]) server.addImage({ tag: "v1", layer });
    const image = `${origin.host}/team/app:v1`;
    const option = ["--mirror", `${origin.host}=${mirror.url}`];
    const dir = await makeTempDir("unpacked");
    try {
      for (const args of [
        ["index", image],
        ["inspect", image],
        ["ls", image],
        ["stat", image, "/hello"],
        ["tree", image],
        ["cat", image, "/hello"],
        ["verify", image],
        ["unpack", image, path.join(dir, "root")],
      ]) {
        const host = await makeSkimHost();
        const before = mirror.seen.length;
        await host.ok([args[0]!, ...option, ...args.slice(1)]);
        expect(mirror.seen.length, args[0]).toBeGreaterThan(before);
        expect(origin.seen, args[0]).toEqual([]);
      }
      const host = await makeSkimHost();
      await host.ok(["index", image], { env: { SKIM_MIRRORS: `${origin.host}=${mirror.url}` } });
      expect(origin.seen).toEqual([]);
      expect(await readFile(path.join(dir, "root/hello"), "utf8")).toBe("hello\n");
    } finally {
      await origin.close();
      await mirror.close();
    }
  });
});

describe("the settings of a command line", () => {
  it("that are wrong are told in one line, with what is right", async () => {
    const host = await makeSkimHost();
    const config = path.join(await makeTempDir("config"), "config.json");
    const cases: Array<[string[], NodeJS.ProcessEnv, string, RegExp, number]> = [
      [["ps", "--config", config], {}, '{"cacheDri": "/x"}', /^skim: USAGE: .*did you mean "cacheDir"\?$/, 2],
      [["ps", "--config", "/nowhere/x"], {}, "", /^skim: NOT_FOUND: .*\/nowhere\/x/, 3],
      [["ps"], { SKIM_CONFIG: "/nowhere/x" }, "", /^skim: NOT_FOUND: .*\/nowhere\/x/, 3],
      [["ls", "--mirror", "nonsense", "x"], {}, "", /^skim: USAGE: --mirror .*REGISTRY=URL/, 2],
      [["ps"], { SKIM_MIRRORS: "a=ftp://b" }, "", /^skim: USAGE: setting mirrors \(SKIM_MIRRORS\)/, 2],
    ];
    for (const [args, env, text, message, code] of cases) {
      await writeFile(config, text);
      const result = await host.run(args, { env });
      expect(result.stderr.trimEnd()).toMatch(message);
      expect(result.stderr.trimEnd().split("\n")).toHaveLength(1);
      expect(result.code).toBe(code);
    }
  });
});
