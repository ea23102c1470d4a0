import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { mediaTypes } from "../../src/image/media-types.js";
import { examineImage } from "../../src/mount/examine-image.js";
import { elf } from "../program/elf-builder.js";
import { debianLayout } from "../support/debian-image.js";
import { buildTar, type TarEntrySpec } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";
import { zstdFixture } from "../support/zstd.js";
import {
  busyboxTree,
  expectNoFailure,
  failed,
  fixtureHost,
  glibcTree,
  hostFile,
  makeFixture,
} from "./fixture-image.js";

const env = ["PATH=/bin:/usr/bin"];
const sh = { Cmd: ["sh"], Env: env };

describe("what the doctor says of an image for another processor", () => {
  it("the config, the program and the shell are for arm64; a config that is wrong about it is only odd", async () => {
    const arm = elf({ machine: 183, dynamic: false });
    const entries: TarEntrySpec[] = [{ path: "bin/sh", content: arm, mode: 0o755 }];
    const fixture = await makeFixture(entries, { Cmd: ["/bin/sh"] }, { architecture: "arm64" });
    const examination = await fixture.examine({ platform: { os: "linux", architecture: "arm64" } });
    expect(failed(examination)).toEqual(["arch", "arch-program", "arch-shell"]);
    expect(examination).toMatchObject({ platform: "linux/arm64", host: "linux/amd64" });

    const unlabelled = await makeFixture(busyboxTree("sh"), {}, { architecture: "" });
    expect(await unlabelled.check("arch")).toMatchObject([{ status: "warn", path: "linux/unknown" }]);

    const mislabelled = await makeFixture(busyboxTree("sh"), sh, { architecture: "arm64" });
    expectNoFailure(await mislabelled.examine());
    expect(await mislabelled.check("arch")).toMatchObject([{ status: "warn", path: "linux/arm64" }]);
    expect((await mislabelled.run("--", "true")).code).toBe(127);
    expect((await mislabelled.run("--", "sh", "-c", "exit 0")).code).toBe(0);
  });
});

describe("what the doctor says of tools", () => {
  it("each that a profile or the caller wants and the image lacks is a failure; those there are listed", async () => {
    const fixture = await makeFixture(busyboxTree("sh", "cat", "env"), sh);
    expect(await fixture.check("tool")).toEqual([]);
    const found = await fixture.check("tool", { toolProfile: "github-actions", tools: ["cat", "git"] });
    expect(found.map(({ status, path, detail }) => [status, path ?? detail])).toEqual([
      ["fail", "tar"],
      ["fail", "find"],
      ["fail", "chmod"],
      ["fail", "tail"],
      ["fail", "git"],
      ["ok", "there: sh, cat, env"],
    ]);
    const { code, stderr } = await fixture.run("--", "tar", "c", "/etc");
    expect(code).toBe(127);
    expect(stderr).toMatch(/"tar": executable file not found in \$PATH/);
  });

  it("one that is there but cannot be started is a failure too, with its reason", async () => {
    const fixture = await makeFixture([...busyboxTree("sh"), hostFile("/usr/bin/find")], sh);
    expect(await fixture.check("tool", { tools: ["find"] })).toMatchObject([
      {
        status: "fail",
        path: "find",
        detail: expect.stringMatching(/^\/usr\/bin\/find: needs \/lib64\/ld-linux-x86-64/),
      },
    ]);
    expect((await fixture.run("--", "find", "/")).stderr).toMatch(/exec \/usr\/bin\/find: no such file/);
  });

  it("standard paths are there, there by symlinks, or missing", async () => {
    const ids = ["shell-path", "env-path", "loader-path", "certificates"];
    const statuses = async (entries: TarEntrySpec[], config = {}) => {
      const { checks } = await (await makeFixture(entries, config)).examine();
      return ids.map((id) => checks.find((check) => check.id === id)?.status);
    };
    const program: TarEntrySpec = { path: "app", content: readFileSync("/bin/busybox"), mode: 0o755 };
    expect(await statuses([program], { Cmd: ["/app"] })).toEqual(["warn", "warn", "warn", "warn"]);
    const bundle = { path: "etc/ssl/certs/ca-certificates.crt", content: "-----BEGIN CERTIFICATE-----\n" };
    const whole = [...busyboxTree("sh", "env"), ...glibcTree, { path: "usr/bin", link: "/bin" }, bundle];
    expect(await statuses(whole, sh)).toEqual(["ok", "ok", "ok", "ok"]);
    expect(
      await statuses([program, { ...bundle, content: "" }, { path: "bin/sh", link: "nowhere" }]),
    ).toEqual(["warn", "warn", "warn", "warn"]);
  });
});

describe("what the doctor says of directories for a user", () => {
  const user = { ...sh, User: "app" };
  const touch = (path: string) => ["--", "sh", "-c", `: > ${path}/x`];

  it("a /tmp of mode 0755: others cannot write there; who has said that he will, is failed", async () => {
    const entries = busyboxTree("sh").map((one) => (one.path === "tmp/" ? { ...one, mode: 0o755 } : one));
    const fixture = await makeFixture(entries, user);
    expect(await fixture.check("tmp-mode")).toMatchObject([
      { status: "warn", path: "/tmp", detail: expect.stringMatching(/mode 0755, owner 0:0, not 1777/) },
    ]);
    expect(await fixture.check("tmp")).toMatchObject([{ status: "warn", path: "/tmp" }]);
    expect(await fixture.check("tmp", { toolProfile: "upload" })).toMatchObject([{ status: "fail" }]);
    expect((await fixture.run(...touch("/tmp"))).stderr).toMatch(/\/tmp\/x: Permission denied/);
    // runc gives a tmpfs the mode of the directory that it covers.
    const tmpfs = [{ destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["mode=1777"] }];
    expect(await fixture.check("tmp", { mounts: tmpfs })).toMatchObject([{ status: "warn" }]);
    const covered = await fixture.run("--mount", "type=tmpfs,target=/tmp", ...touch("/tmp"));
    expect(covered.stderr).toMatch(/\/tmp\/x: Permission denied/);
    expect(await fixture.check("tmp", { user: "0" })).toMatchObject([{ status: "ok" }]);
  });

  it("a /tmp that the image does not have is made for everybody", async () => {
    const fixture = await makeFixture(
      busyboxTree("sh").filter(({ path }) => path !== "tmp/"),
      user,
    );
    expect(await fixture.check("tmp")).toMatchObject([{ status: "ok" }]);
    expect((await fixture.run(...touch("/tmp"))).code).toBe(0);
  });

  it("a working directory: made for root, so not his; his own; and / that nobody chose", async () => {
    const made = await makeFixture(busyboxTree("sh"), { ...user, WorkingDir: "/work" });
    expect(await made.check("workdir")).toMatchObject([
      { status: "warn", path: "/work", detail: "user 1000 may not write there (mode 0755, owner 0:0)" },
    ]);
    expect((await made.run(...touch("."))).stderr).toMatch(/Permission denied/);
    expect(await made.check("workdir", { workdir: "/home/app" })).toMatchObject([{ status: "ok" }]);
    expect((await made.run("--workdir", "/home/app", ...touch("."))).code).toBe(0);
    const none = await makeFixture(busyboxTree("sh"), user);
    expect(await none.check("workdir")).toMatchObject([{ status: "ok", path: "/" }]);
  });

  it("HOME: there, missing, in a directory that he may write to, and none by intention", async () => {
    const fixture = await makeFixture(busyboxTree("sh"), user);
    expect(await fixture.check("home")).toMatchObject([{ status: "ok", path: "/home/app" }]);
    expect(await fixture.check("home", { env: ["HOME=/home/other"] })).toMatchObject([
      { status: "warn", detail: "not in the image, and user 1000 cannot make it" },
    ]);
    expect(await fixture.check("home", { env: ["HOME=/tmp/app"] })).toMatchObject([{ status: "ok" }]);
    expect(await fixture.check("home", { env: ["HOME=/nonexistent"] })).toMatchObject([{ status: "ok" }]);
    expect(await fixture.check("home", { env: ["HOME=/root"] })).toMatchObject([{ status: "warn" }]);
  });

  it("users in all forms, with their groups", async () => {
    const fixture = await makeFixture(busyboxTree("sh"), user);
    const said = async (name: string) => (await fixture.check("user", { user: name }))[0]!;
    expect((await said("app")).detail).toBe('"app" is 1000:1000, also of groups 50, HOME /home/app');
    expect((await said("app:extra")).detail).toBe('"app:extra" is 1000:50, HOME /home/app');
    expect((await said("1000")).detail).toBe('"1000" is 1000:1000, also of groups 50, HOME /home/app');
    expect((await said("7:8")).detail).toBe('"7:8" is 7:8, HOME /');
    expect(await said("4294967295")).toMatchObject({ status: "fail" });
  });

  it("directories: each with what the image has there, and what is made of it", async () => {
    const entries: TarEntrySpec[] = [
      ...busyboxTree("sh"),
      { path: "run/" },
      { path: "var/run", link: "/run" },
    ];
    const fixture = await makeFixture(entries, { ...sh, Volumes: { "/var/run/app": {}, "/data": {} } });
    const found = await fixture.check("directory", { directories: [{ path: "/workspace", mode: 0o1777 }] });
    expect(found.map(({ path, detail }) => `${path}: ${detail}`)).toEqual([
      "/proc: not in the image, made at the start (mode 0555)",
      "/sys: not in the image, made at the start (mode 0555)",
      "/dev: not in the image, made at the start (mode 0755)",
      "/tmp: in the image (mode 1777, owner 0:0)",
      "/data: not in the image, made at the start (mode 0755)",
      "/var/run/app: not in the image, made at the start (mode 0755)",
      "/workspace: not in the image, made at the start (mode 1777)",
    ]);
  });
});

describe("what the doctor says of layers", () => {
  const tar = (content: Buffer) => buildTar([...busyboxTree("sh"), { path: "data", content }]);

  it("one frame of zstd is odd where it is large, and not looked into further than it may", async () => {
    const noise = Buffer.alloc(40e6);
    // Bytes that do not compress, and are the same each time.
    for (let at = 0, x = 1; at < noise.length; at += 4) {
      x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
      noise.writeUInt32LE(x, at);
    }
    const whole = buildTar([{ path: "data", content: noise }, ...busyboxTree("sh")]);
    const layer = { tar: whole, blob: zstdFixture(whole), mediaType: mediaTypes.ociLayerZstd };
    const fixture = await makeFixture([], sh, { layers: [layer] });
    expect(await fixture.check("layer-ranges")).toMatchObject([
      { status: "warn", detail: expect.stringMatching(/^one zstd frame in 4\d\.\d MB/) },
    ]);
    const bounded = await fixture.examine({ fetchBytesMax: 1e6 });
    expectNoFailure(bounded);
    expect(bounded.checks.find(({ id }) => id === "format")).toMatchObject({
      status: "warn",
      path: "/bin/sh",
      detail: "not looked at: it would take too much to read",
    });
    const small = tar(Buffer.alloc(1000));
    const fine = await makeFixture([], sh, {
      layers: [{ tar: small, blob: zstdFixture(small), mediaType: mediaTypes.ociLayerZstd }],
    });
    expect(await fine.check("layer-ranges")).toMatchObject([{ status: "ok" }]);
  });

  it("a media type that lies is odd", async () => {
    const plain = tar(Buffer.alloc(10));
    const fixture = await makeFixture([], sh, { layers: [{ tar: plain, blob: plain }] });
    expect(await fixture.check("layer-type")).toMatchObject([
      {
        status: "warn",
        path: expect.stringMatching(/^layer 1 of 1, sha256:/),
        detail: expect.stringMatching(/says gzip, its bytes are a plain tar/),
      },
    ]);
  });

  it("foreign and encrypted layers are failures, all of them named, though the image cannot be indexed", async () => {
    const layer = tar(Buffer.alloc(10));
    const foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    const fixture = await makeFixture([], sh, {
      layers: [
        { tar: layer, mediaType: foreign, descriptor: { urls: ["https://example.com/layer"] } },
        { tar: layer },
        { tar: layer, mediaType: `${mediaTypes.ociLayerGzip}+encrypted` },
      ],
    });
    const { checks, counts } = await fixture.examine();
    expect(counts).toEqual({ ok: 0, warn: 0, fail: 2 });
    expect(checks).toMatchObject([
      {
        id: "layer-type",
        path: expect.stringMatching(/^layer 1 of 3/),
        detail: expect.stringMatching(/a foreign layer.*example\.com/),
      },
      {
        id: "layer-type",
        path: expect.stringMatching(/^layer 3 of 3/),
        detail: expect.stringMatching(/an encrypted layer/),
      },
    ]);
    expect((await fixture.run()).code).toBe(125);
  });

  it("a hard link to nothing, and a layer that is not what the config says, are failures", async () => {
    const dangling = buildTar([{ path: "a", type: "hardlink", link: "nowhere" }]);
    const links = await makeFixture([], sh, { layers: [{ tar: dangling }] });
    expect((await links.examine()).checks).toMatchObject([
      {
        id: "hard-links",
        status: "fail",
        path: expect.stringMatching(/^layer 1 of 1/),
        detail: expect.stringMatching(/"a" is a hard link to "nowhere"/),
      },
    ]);
    const wrong = await makeFixture([], sh, {
      layers: [{ tar: tar(Buffer.alloc(1)), diffId: `sha256:${"0".repeat(64)}` }],
    });
    expect(failed(await wrong.examine())).toEqual(["layer-content"]);
  });
});

describe("what the doctor says of inodes", () => {
  it("lists set-user-ID programs and devices, those in /dev apart, and counts hard links", async () => {
    const fixture = await makeFixture(
      [
        ...busyboxTree("sh"),
        { path: "bin/su", content: "x", mode: 0o4755 },
        { path: "bin/wall", content: "x", mode: 0o2755 },
        { path: "bin/again", type: "hardlink", link: "bin/su" },
        { path: "dev/null", type: "character", major: 1, minor: 3 },
        { path: "srv/disk", type: "block", major: 8, minor: 0 },
      ],
      sh,
    );
    expect(await fixture.check("setuid")).toMatchObject([
      { status: "ok", detail: "2: /bin/again, /bin/wall" },
    ]);
    expect(await fixture.check("devices")).toMatchObject([
      {
        status: "warn",
        path: "/srv/disk",
        detail: expect.stringMatching(/^1 device nodes outside of \/dev/),
      },
    ]);
    expect((await fixture.run("--", "sh", "-c", ": < /srv/disk")).stderr).toMatch(/Operation not permitted/);
    expect(await fixture.check("hard-links")).toMatchObject([
      { detail: "1 files have several names, each one file" },
    ]);
    expect(await fixture.check("link-counts")).toMatchObject([{ status: "ok" }]);
  });
});

describe("ordinary images", () => {
  let debian: string;

  beforeAll(async () => {
    debian = await debianLayout();
  });

  it("Debian with Python: no failure, whatever is asked", async () => {
    const image = `oci:${debian}:debian`;
    const settings = { cacheDir: await makeTempDir("doctor-debian") };
    const examination = await examineImage({ image, settings, deps: true, toolProfile: "github-actions" });
    expectNoFailure(examination);
    expect(examination.checks.find(({ id }) => id === "libraries")).toMatchObject({ status: "ok" });
    expect(examination.checks.find(({ id }) => id === "first-exec")?.detail).toMatch(
      /^\d+\.\d MB of 8\d\.\d MB \(1\d\.\d %\) are fetched to the first exec, by what the command loads$/,
    );
    for (const args of [["sh", "-c", "exec perl -e 1"], ["bash"], ["/usr/bin/env", "-S", "A=1 python3"]])
      expectNoFailure(await examineImage({ image, settings, deps: true, args, entrypoint: [] }));
  });

  it("nothing at all: no command is what fails, and nothing else", async () => {
    const nothing = await makeFixture([]);
    expect(failed(await nothing.examine())).toEqual(["entrypoint"]);
    await fixtureHost();
  });
});
