import { rename, rm } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Examination } from "../../src/doctor/examine.js";
import { type EmbeddedRegistry, startEmbeddedRegistry } from "../../src/registry/embedded-registry.js";
import { debianLayout } from "../support/debian-image.js";
import { writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";
import { busyboxTree, fixtureHost, hostFile, makeFixture } from "./fixture-image.js";

const env = ["PATH=/bin"];

describe("skim doctor", () => {
  it("prints a line for each finding, and a summary; exits with 2 where something fails", async () => {
    const fixture = await makeFixture(busyboxTree("sh"), { Cmd: ["sh"], Env: env });
    const host = await fixtureHost();
    const good = await host.run(["doctor", fixture.image]);
    expect(good.code).toBe(0);
    expect(good.stdout).toMatch(
      /^OK entrypoint \/bin\/sh: sh is found there along PATH, a way to \/bin\/busybox$/m,
    );
    expect(good.stdout).toMatch(
      /: starts: \d+ checks, 0 failed, \d+ warnings; .* read, (nothing fetched|.* fetched in \d+ requests?), \d+ ms\n$/,
    );
    const inject = `${path.resolve("/usr/bin/true")}:/__e/node20/bin/node`;
    const bad = await host.run(["doctor", "--inject", inject, fixture.image]);
    expect(bad.code).toBe(2);
    expect(bad.stdout).toContain(
      'FAIL interp /__e/node20/bin/node: needs /lib64/ld-linux-x86-64.so.2, not in the image (the kernel will say "no such file or directory"). Fix: take a static build, or an image with glibc (debian, ubuntu, ubi)\n',
    );
    expect(bad.stdout).toMatch(/: will not do: \d+ checks, 1 failed, /);
    expect(bad.stdout).not.toContain("\x1b");
  });

  it("exits with 1 for warnings where they are to count", async () => {
    const fixture = await makeFixture(busyboxTree("sh"), { Cmd: ["sh"], Env: env });
    const host = await fixtureHost();
    expect((await host.run(["doctor", fixture.image])).stdout).toMatch(/^WARN certificates /m);
    expect((await host.run(["doctor", "--strict", fixture.image])).code).toBe(1);
    expect((await host.run(["doctor", "--strict", fixture.image, "--", "nope"])).code).toBe(2);
  });

  it("prints JSON with ids, statuses, paths, details, fixes, and what was read", async () => {
    const fixture = await makeFixture(busyboxTree("sh"), { Cmd: ["sh"], Env: env });
    const host = await fixtureHost();
    const { code, stdout } = await host.run([
      "doctor",
      "--json",
      fixture.image,
      "--",
      "serve",
      "--port",
      "80",
    ]);
    expect(code).toBe(2);
    const { checks, ...rest } = JSON.parse(stdout) as Examination;
    expect(checks.find(({ id }) => id === "entrypoint")).toEqual({
      id: "entrypoint",
      status: "fail",
      path: "serve",
      detail: 'in none of /bin (the runtime will say "executable file not found in $PATH")',
      fix: "name it with its path, set PATH (--env), or choose an image that has it",
      bytesRead: 0,
    });
    expect(rest).toEqual({
      reference: expect.stringMatching(/^oci:/),
      manifestDigest: expect.stringMatching(/^sha256:/),
      platform: "linux/amd64",
      host: "linux/amd64",
      counts: { ok: expect.any(Number), warn: expect.any(Number), fail: 1 },
      bytesRead: expect.any(Number),
      fetchRequests: expect.any(Number),
      fetchedBytes: expect.any(Number),
      durationMs: expect.any(Number),
    });
  });

  it("takes the options of skim run, and says what it checks", async () => {
    const fixture = await makeFixture(busyboxTree("sh"), { Cmd: ["sh"], Env: env });
    const host = await fixtureHost();
    const found = async (...options: string[]) => {
      const { stdout } = await host.run(["doctor", ...options, fixture.image]);
      return stdout.split("\n").filter((line) => line.startsWith("FAIL"));
    };
    expect(await found("--entrypoint", "serve", "--user", "nobody", "--workdir", "/etc/passwd")).toEqual([
      expect.stringMatching(/^FAIL user "nobody": /),
      expect.stringMatching(/^FAIL directory \/etc\/passwd: /),
      expect.stringMatching(/^FAIL entrypoint serve: /),
    ]);
    expect(await found("--mount", "type=tmpfs,target=/etc/passwd", "--dir", "/bin/sh")).toEqual([
      expect.stringMatching(/^FAIL directory \/bin\/sh: /),
      expect.stringMatching(/^FAIL mount \/etc\/passwd: /),
    ]);
    expect(await found("--require", "git,make", "--profile", "shell", "--env", "PATH=/nowhere")).toHaveLength(
      4,
    );
    const listed = await host.json<{ id: string; asks: string; fix: string }[]>(["doctor", "--list-checks"]);
    expect(listed.length).toBeGreaterThan(30);
    expect(new Set(listed.map(({ id }) => id)).size).toBe(listed.length);
  });

  it("exits with 3 where it could not look: no such image, wrong options, nothing named", async () => {
    const host = await fixtureHost();
    for (const args of [
      ["doctor", "oci:/no/such/layout"],
      ["doctor", "/no/such.skim"],
      ["doctor"],
      ["doctor", "--profile", "gitlab", "image"],
      ["doctor", "--inject", "file", "image"],
      ["doctor", "--mount", "type=nfs,target=/x", "image"],
    ]) {
      const { code, stderr } = await host.run(args);
      expect(stderr).toMatch(/^skim: [A-Z_]+: /);
      expect(code).toBe(3);
    }
  });
});

describe("what skim doctor asks of the registry", () => {
  let host: SkimHost;
  let registry: EmbeddedRegistry;
  let archive: string;

  beforeAll(async () => {
    host = await makeSkimHost();
    registry = await startEmbeddedRegistry({ layout: await debianLayout() });
    archive = path.join(host.cacheDir, "debian.skim");
    await host.ok(["inspect", `${registry.host}/image:debian`]);
    await host.ok(["index", `${registry.host}/image:debian`, "-o", archive]);
  });
  afterAll(async () => await registry?.close());

  const examined = async (...options: string[]) => {
    await rm(path.join(host.cacheDir, "layers"), { recursive: true, force: true });
    const before = { ...registry.counters };
    const examination = JSON.parse(
      (await host.run(["doctor", "--json", ...options, archive])).stdout,
    ) as Examination;
    const asked = registry.counters.rangeRequests - before.rangeRequests;
    return { examination, asked, bytes: registry.counters.bytesSent - before.bytesSent };
  };

  it("a few ranges with the heads of programs, and nothing that is cached", async () => {
    const { examination, asked, bytes } = await examined();
    expect(examination.counts.fail).toBe(0);
    // The two files of accounts; heads of the program, the shell and the loader, of which one may need a second span.
    expect(asked).toBeLessThanOrEqual(6);
    expect(bytes).toBeLessThan(3e6);
    expect(examination.fetchRequests).toBe(asked);
    expect(examination.fetchedBytes).toBeLessThanOrEqual(bytes);
    const before = registry.counters.requests;
    expect(await host.json<Examination>(["doctor", archive])).toMatchObject({ fetchRequests: 0 });
    expect(registry.counters.requests).toBe(before);
  });

  it("some more with libraries and tools, a small part of the image still", async () => {
    const { asked, bytes } = await examined("--deps", "--profile", "github-actions");
    expect(asked).toBeLessThanOrEqual(20);
    expect(bytes).toBeLessThan(10e6);
  });

  it("no more than it may: what lies beyond is not judged", async () => {
    const { examination, bytes } = await examined("--fetch-bytes-max", "100kB");
    expect(bytes).toBeLessThanOrEqual(100_000);
    expect(examination.counts.fail).toBe(0);
    expect(examination.checks).toContainEqual(
      expect.objectContaining({
        id: "format",
        status: "warn",
        detail: "not looked at: it would take too much to read",
      }),
    );
  });
});

describe("a registry that fails while skim doctor looks", () => {
  it("is told, and the exit code is 3", async () => {
    const host = await makeSkimHost();
    const dir = await makeTempDir("failing");
    const tar = buildTar([...busyboxTree("sh"), hostFile("/usr/bin/true")]);
    const { layerDigests } = await writeTestImage(dir, [{ tar }], { config: { Cmd: ["sh"], Env: env } });
    const registry = await startEmbeddedRegistry({ layout: dir });
    const archive = path.join(dir, "image.skim");
    await host.ok(["index", `${registry.host}/image:latest`, "-o", archive]);
    await rm(path.join(host.cacheDir, "layers"), { recursive: true, force: true });
    const blob = path.join(dir, "blobs/sha256", layerDigests[0]!.slice("sha256:".length));
    await rename(blob, `${blob}.away`);
    const missing = await host.run(["doctor", archive]);
    expect(missing.stderr).toMatch(/^skim: NOT_FOUND: /);
    expect(missing).toMatchObject({ code: 3, stdout: "" });
    await rename(`${blob}.away`, blob);
    await registry.close();
    const { code, stdout, stderr } = await host.run(["doctor", archive]);
    expect(stderr).toMatch(/^skim: (REGISTRY_UNAVAILABLE|DEADLINE_EXCEEDED): .*ECONNREFUSED/);
    expect({ code, stdout }).toEqual({ code: 3, stdout: "" });
  });
});
