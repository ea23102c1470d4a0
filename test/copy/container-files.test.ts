import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FileToCopy } from "../../src/copy/container-entry.js";
import { copyIn, copyOut, listFiles, removeFile, statFile } from "../../src/mount/container-files.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { makeTempDir } from "../support/temp-dir.js";
import { busyboxArchive, modes, startContainerOf, type TestContainer } from "./busybox-container.js";

describe.each(modes)("files of a container of %s", (name, options) => {
  let host: SkimHost;
  let box: TestContainer;
  let dir: string;
  let bound: string;

  beforeAll(async () => {
    dir = await makeTempDir("copy");
    bound = path.join(dir, "bound");
    mkdirSync(bound);
    host = await makeSkimHost();
    const archive = await busyboxArchive(host, { Volumes: { "/vol": {} } });
    const mounts = [
      "--mount",
      "type=tmpfs,target=/mem",
      "--mount",
      `type=bind,source=${bound},target=/bound`,
    ];
    box = await startContainerOf(host, archive, [...options, ...mounts]);
  });

  afterAll(async () => {
    await box.end();
    expect(await host.leftovers()).toEqual([]);
  });

  const of = () => ({ id: box.id, settings: box.settings });
  const put = (...files: FileToCopy[]) => copyIn({ ...of(), files });
  const content = (text: string) => Buffer.from(text);

  test("two files are uploaded, and one exec reads both", async () => {
    writeFileSync(path.join(dir, "compose.yml"), "services: base\n");
    writeFileSync(path.join(dir, "override.yml"), "services: override\n");
    await host.ok([
      "cp",
      path.join(dir, "compose.yml"),
      path.join(dir, "override.yml"),
      `${box.id}:/srv/app/`,
    ]);
    expect(await box.sh("cat /srv/app/compose.yml /srv/app/override.yml")).toBe(
      "services: base\nservices: override\n",
    );
    // As the container's own user, whose they are.
    expect(
      await host.ok([
        "exec",
        box.id,
        "--",
        "sh",
        "-c",
        "echo more >> /srv/app/compose.yml; cat /srv/app/compose.yml",
      ]),
    ).toBe("services: base\nmore\n");
  });

  test("what a mount of the container has is seen, and no other place is written instead", async () => {
    const places = ["/mem/file", "/bound/file", "/vol/file", "/tmp/file", "/dev/shm/file"];
    const results = await put(...places.map((place) => ({ path: place, content: content(place) })));
    expect(results.filter(({ error }) => error)).toEqual([]);
    expect(await box.sh(`cat ${places.join(" ")}`)).toBe(places.join(""));
    expect(readFileSync(path.join(bound, "file"), "utf8")).toBe("/bound/file");
    writeFileSync(path.join(bound, "from-outside"), "host");
    expect((await listFiles({ ...of(), path: "/bound" })).map((entry) => entry.path)).toEqual([
      "file",
      "from-outside",
    ]);
    await box.sh("echo inside > /mem/inside");
    await copyOut({ ...of(), path: "/mem/inside", to: path.join(dir, "inside") });
    expect(readFileSync(path.join(dir, "inside"), "utf8")).toBe("inside\n");
  });

  test("owner, mode and time are as given, or the user's, 0644 and now; parents are made for the same owner, existing ones stay", async () => {
    await box.sh("mkdir /work/old; chmod 711 /work/old");
    await put(
      {
        path: "/work/old/a/b/file",
        content: content("x"),
        mode: 0o4750,
        uid: 7,
        gid: 8,
        mtime: { seconds: 1_000_000_001, nanoseconds: 123_456_789 },
      },
      { path: "/work/old/plain" },
      { path: "/work/old", kind: "directory", mode: 0o700 },
    );
    expect(
      await box.sh(
        "stat -c '%a %u %g %Y' /work/old/a/b/file; stat -c '%a %u %g' /work/old/plain /work/old/a /work/old/a/b; stat -c '%a %u' /work/old",
      ),
    ).toBe("4750 7 8 1000000001\n644 1234 1235\n755 7 8\n755 7 8\n711 0\n");
    expect(await statFile({ ...of(), path: "/work/old/a/b/file" })).toMatchObject({
      mode: 0o4750,
      size: 1,
      mtimeNsec: 123_456_789,
    });
  });

  test("names are bytes: quotes, commands, newlines, dashes, and what is not UTF-8", async () => {
    const names = ["-rf", "a 'b' \"c\"", "$(touch hacked)", "new\nline", "`id`", "ü", "*?[", "\\x41"].map(
      (text) => Buffer.from(text),
    );
    names.push(Buffer.from([0x66, 0xff, 0xfe]), Buffer.alloc(255, "n"));
    const at = (one: Buffer) => Buffer.concat([Buffer.from("/work/names/"), one]);
    await put(...names.map((one) => ({ path: at(one), content: one })));
    const listed = await listFiles({ ...of(), path: "/work/names" });
    expect(listed.map((entry) => entry.path)).toEqual(names.map((one) => one.toString("latin1")).sort());
    const out = path.join(dir, "names");
    const taken = await copyOut({ ...of(), path: "/work/names", to: out });
    expect(taken).toMatchObject({ files: names.length, directories: 1, skipped: [] });
    for (const one of names)
      expect(readFileSync(Buffer.concat([Buffer.from(`${out}/`), one])).equals(one)).toBe(true);
    for (const one of names) await removeFile({ ...of(), path: at(one) });
    expect(await listFiles({ ...of(), path: "/work/names" })).toEqual([]);
    expect(await statFile({ ...of(), path: "/work/names/hacked" })).toBeUndefined();
  });

  test("a thousand files go in one stream, each with its result, and one after the other as well", async () => {
    await box.sh("mkdir -p /work/many/77");
    const files = Array.from({ length: 1000 }, (_, i) => ({
      path: `/work/many/${i}`,
      content: content(`${i}\n`),
    }));
    const results = await copyIn({ ...of(), files });
    expect(results.map((result) => result.path)).toEqual(files.map((file) => file.path));
    expect(results.filter(({ error }) => error)).toEqual([
      {
        path: "/work/many/77",
        error: expect.stringMatching(/^\/work\/many\/77: it is a directory/),
        errno: "EISDIR",
      },
    ]);
    const sum = await box.sh(
      "s=0; for f in /work/many/*; do [ -f $f ] && read n < $f && s=$((s+n)); done; echo $s",
    );
    expect(Number(sum)).toBe((999 * 1000) / 2 - 77);
    for (let i = 0; i < 10; i++) await put({ path: "/work/many/single", content: content(`${i}`) });
    expect(await box.sh("cat /work/many/single; ls -A /work/many | grep -c skim || true")).toBe("90\n");
  });

  test("who reads meanwhile sees the old content or the new one, and nothing else", async () => {
    const [old, young] = ["a".repeat(300_000), "b".repeat(300_000)];
    await put({ path: "/work/turns", content: content(old) });
    const script =
      "n=0; while [ $n -lt 20 ]; do s=$(cat /work/turns) || echo failed; case $s in *a*b*|*b*a*) echo mixed;; esac; [ $(echo $s | wc -c) = 300001 ] || echo torn; n=$((n+1)); done; echo read";
    let isRead = false;
    const reader = box.sh(script).finally(() => {
      isRead = true;
    });
    function* turns() {
      for (let i = 0; !isRead; i++) yield { path: "/work/turns", content: content(i % 2 ? old : young) };
    }
    const results = await copyIn({ ...of(), files: turns() });
    expect(results.filter(({ error }) => error)).toEqual([]);
    expect(results.length).toBeGreaterThan(20);
    expect(await reader).toBe("read\n");
  });

  test("a container that swaps a directory for a symlink to the host leads nobody out of it", async () => {
    const canary = path.join(dir, "canary");
    mkdirSync(canary);
    writeFileSync(path.join(canary, "secret"), "of the host");
    await box.sh("mkdir -p /work/swap; echo inside > /work/swap/secret; echo go > /work/going");
    const swapper = host.run([
      "exec",
      "--user",
      "0",
      box.id,
      "--",
      "sh",
      "-c",
      `cd /work; while [ -f going ]; do mv swap real; ln -s ${canary} swap; rm swap; ln -s ../../../../../../../../..${canary} swap; rm swap; ln -s /proc/1/root${canary} swap; rm swap; mv real swap; done`,
    ]);
    const files = Array.from({ length: 1000 }, (_, i) => ({
      path: `/work/swap/f${i}`,
      content: content("x"),
    }));
    const results = await copyIn({ ...of(), files });
    const seen = new Set<string>();
    for (let i = 0; i < 10; i++) {
      const to = path.join(dir, `swapped-${i}`);
      await copyOut({ ...of(), path: "/work/swap/secret", to }).catch(() => {});
      try {
        seen.add(readFileSync(to, "utf8"));
      } catch {}
    }
    await removeFile({ ...of(), path: "/work/going" });
    expect(await swapper).toMatchObject({ code: 0 });
    expect(readdirSync(canary)).toEqual(["secret"]);
    expect([...seen].filter((text) => text !== "inside\n")).toEqual([]);
    expect(results.filter(({ error }) => !error).length).toBeGreaterThan(0);
    const left = await box.sh("find /work -name '.skim-*'");
    expect(left).toBe("");
  });

  test("symlinks lead where they lead in the container, also at the end of a path", async () => {
    await box.sh(
      "mkdir -p /work/l/real; ln -s /work/l/real /work/l/abs; ln -s ../../../../../work/l/real /work/l/up; ln -s target /work/l/real/link; ln -s loop /work/l/loop",
    );
    const results = await put(
      { path: "/work/l/abs/one", content: content("1") },
      { path: "/work/l/up/link", content: content("2") },
      { path: "/work/l/loop", content: content("3") },
      { path: "/work/l/made", kind: "symlink", target: "/etc/passwd" },
    );
    expect(results.map(({ errno }) => errno)).toEqual([undefined, undefined, "ELOOP", undefined]);
    expect(
      await box.sh(
        "cd /work/l/real; cat one target; ls -l link | grep -c 'link -> target'; stat -c %N ../made",
      ),
    ).toMatch(/^121\n.*made.*etc.passwd/);
    expect(await statFile({ ...of(), path: "/work/l/made" })).toMatchObject({
      kind: "symlink",
      target: "/etc/passwd",
    });
    expect(await statFile({ ...of(), path: "/work/l/made", follow: true })).toMatchObject({ kind: "file" });
  });

  test("a file whose content fails is not there, and those after it are", async () => {
    async function* broken() {
      yield content("some");
      throw new Error("the source broke");
    }
    const results = await put(
      { path: "/work/b1", content: broken() },
      { path: "/work/b2", content: content("fine") },
    );
    expect(results).toEqual([{ path: "/work/b1", error: "the source broke" }, { path: "/work/b2" }]);
    expect(await box.sh("cat /work/b2; ls -A /work | grep -c -e b1 -e skim || true")).toBe("fine0\n");
  });

  test("a copy may take as long as it moves, and is given up when nothing does", async () => {
    async function* slow(pieces: number, last: number) {
      for (let i = 0; i < pieces; i++) {
        yield content("x");
        await new Promise((resolve) => setTimeout(resolve, i < pieces - 1 ? 200 : last).unref());
      }
    }
    const times = { timeoutMs: 0, stallTimeoutMs: 2000 };
    const moving = [{ path: "/work/slow", content: slow(15, 0) }];
    expect(await copyIn({ ...of(), files: moving, ...times })).toEqual([{ path: "/work/slow" }]);
    const still = [{ path: "/work/still", content: slow(2, 60_000) }];
    await expect(copyIn({ ...of(), files: still, ...times })).rejects.toMatchObject({
      code: "DEADLINE_EXCEEDED",
      message: expect.stringContaining("nothing has moved"),
    });
    expect(await box.sh("ls -A /work | grep -c -e still -e skim || true")).toBe("0\n");
  });

  test("a limit of a month is one", async () => {
    const times = { timeoutMs: 2 ** 32, stallTimeoutMs: 2 ** 32 };
    expect(await copyIn({ ...of(), files: [{ path: "/work/month" }], ...times })).toEqual([
      { path: "/work/month" },
    ]);
  });

  test("devices, FIFOs and what is mounted at a file are not replaced, and nothing is left beside them", async () => {
    await box.sh("mkdir -p /work/odd; mkfifo /work/odd/fifo");
    const results = await put(
      { path: "/dev/null", content: content("x") },
      { path: "/work/odd/fifo", content: content("x") },
      { path: "/etc/hosts", content: content("x") },
      { path: "/work/odd/fifo", kind: "symlink", target: "/etc/passwd" },
      { path: "/work/odd/fifo", kind: "directory" },
    );
    expect(results.map(({ errno }) => errno)).toEqual(["EEXIST", "EEXIST", "EBUSY", "EEXIST", "EEXIST"]);
    expect(results[1]!.error).toBe(
      "/work/odd/fifo: a device, a FIFO or a socket is there, which is not replaced",
    );
    expect(results[2]!.error).toMatch(/^\/etc\/hosts: \/\S+ of this host is mounted there.*skim exec/);
    expect(
      await box.sh(
        "ls -A /work/odd; [ -c /dev/null ] && [ -p /work/odd/fifo ] && ls -A /dev /etc | grep -c '^.skim-[0-9a-f]*-' || true",
      ),
    ).toBe("fifo\n0\n");
    // Nor are those of the host.
    const fifo = path.join(dir, "host-fifo");
    execFileSync("mkfifo", [fifo]);
    await expect(copyOut({ ...of(), path: "/etc/passwd", to: fifo })).rejects.toMatchObject({
      code: "LOCAL_IO",
      message: expect.stringContaining("cannot be written"),
    });
    expect(lstatSync(fifo).isFIFO()).toBe(true);
    // A symlink is where it leads.
    writeFileSync(path.join(dir, "linked"), "old");
    symlinkSync("linked", path.join(dir, "link"));
    await copyOut({ ...of(), path: "/etc/passwd", to: path.join(dir, "link") });
    expect(readFileSync(path.join(dir, "linked"), "utf8")).toMatch(/^root:/);
  });

  test("a tree of a thousand levels is made, copied out as far as it is allowed, and removed", async () => {
    const levels = 1300;
    await put({ path: `/work/deep${"/d".repeat(levels)}/f`, content: content("x") });
    await expect(copyOut({ ...of(), path: "/work/deep", to: path.join(dir, "deep") })).rejects.toMatchObject({
      code: "LIMIT_EXCEEDED",
    });
    const limits = { depthMax: 2000 };
    const taken = await copyOut({ ...of(), path: "/work/deep", to: path.join(dir, "deep"), limits });
    expect(taken).toMatchObject({ files: 1, directories: levels + 1, skipped: [] });
    await removeFile({ ...of(), path: "/work/deep", recursive: true });
    expect(await statFile({ ...of(), path: "/work/deep" })).toBeUndefined();
  });

  test("what takes too long is given up, and leaves nothing", async () => {
    async function* endless() {
      yield content("begun");
      await new Promise((resolve) => setTimeout(resolve, 60_000).unref());
    }
    const attempt = copyIn({ ...of(), files: [{ path: "/work/late", content: endless() }], timeoutMs: 1500 });
    await expect(attempt).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
    expect(await box.sh("ls -A /work | grep -c -e late -e skim || true")).toBe("0\n");
    const cancelled = copyIn({ ...of(), files: [], signal: AbortSignal.abort() });
    await expect(cancelled).rejects.toMatchObject({ code: "CANCELLED" });
  });

  test("copied out is a tree of files, directories and symlinks, as whole files, without owners and setuid bits", async () => {
    await box.sh(
      "mkdir -p /work/t/d/e; cd /work/t; echo one > d/one; chmod 4755 d/one; ln -s /etc/passwd d/l; mkfifo d/fifo; echo two > d/e/two",
    );
    const out = path.join(dir, "tree");
    const taken = await copyOut({ ...of(), path: "/work/t", to: out });
    expect(taken).toMatchObject({ files: 2, directories: 3, symlinks: 1, bytes: 8 });
    expect(taken.skipped).toEqual([{ path: "d/fifo", error: expect.stringContaining("FIFO") }]);
    expect(
      execFileSync("sh", ["-c", `cd ${out}; find . | sort; stat -c '%a %u' d/one; readlink d/l`], {
        encoding: "utf8",
      }),
    ).toBe(".\n./d\n./d/e\n./d/e/two\n./d/l\n./d/one\n755 0\n/etc/passwd\n");
    // Once more: what is there is replaced, and a symlink in the way is not followed.
    const elsewhere = path.join(dir, "elsewhere");
    mkdirSync(elsewhere);
    execFileSync("rm", ["-r", path.join(out, "d/e")]);
    symlinkSync(elsewhere, path.join(out, "d/e"));
    await expect(copyOut({ ...of(), path: "/work/t", to: out })).rejects.toMatchObject({ code: "LOCAL_IO" });
    expect(readdirSync(elsewhere)).toEqual([]);
    for (const limits of [{ entriesMax: 3 }, { bytesMax: 5 }, { depthMax: 1 }])
      await expect(
        copyOut({ ...of(), path: "/work/t", to: path.join(dir, "limited"), limits }),
      ).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    await expect(copyOut({ ...of(), path: "/nowhere", to: out })).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
    expect(lstatSync(path.join(dir, "inside")).isFile()).toBe(true);
  });

  test("removing stops at what is not empty, and at mounts", async () => {
    await box.sh("mkdir -p /work/r/d; echo x > /work/r/d/f; ln -s /etc /work/r/l");
    await expect(removeFile({ ...of(), path: "/work/r" })).rejects.toMatchObject({
      message: expect.stringMatching(/not empty/),
    });
    await removeFile({ ...of(), path: "/work/r", recursive: true });
    expect(await box.sh("ls -d /work/r 2>/dev/null; ls /etc/passwd")).toBe("/etc/passwd\n");
    await expect(removeFile({ ...of(), path: "/mem", recursive: true })).rejects.toThrow();
    await expect(removeFile({ ...of(), path: "/", recursive: true })).rejects.toThrow();
    await expect(removeFile({ ...of(), path: "/work/r" })).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(await box.sh("cat /mem/file")).toBe("/mem/file");
  });

  test(`the command line says what it could not copy (${name})`, async () => {
    const source = path.join(dir, "source");
    mkdirSync(path.join(source, "sub"), { recursive: true });
    writeFileSync(path.join(source, "sub/f"), "in a directory");
    await box.sh("mkdir -p /work/cli/source/sub/f");
    const failed = await host.run(["cp", source, `${box.id}:/work/cli`]);
    expect(failed).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/not copied: \/work\/cli\/source\/sub\/f: it is a directory/),
    });
    execFileSync("mkfifo", [path.join(source, "fifo")]);
    const odd = await host.run(["cp", source, path.join(dir, "nowhere"), `${box.id}:/work/cli3/`]);
    expect(odd).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/source\/fifo is a device, a FIFO.*\n.*nowhere cannot be read: ENOENT/),
    });
    expect(await box.sh("cd /work/cli3; find . | sort")).toBe(".\n./source\n./source/sub\n./source/sub/f\n");
    execFileSync("rm", [path.join(source, "fifo")]);
    // Neither leads out of where it is to be.
    await host.ok(["cp", `${source}/sub/..`, `${box.id}:/work/cli4/`]);
    expect(await box.sh("cd /work/cli4; find . | sort")).toBe(".\n./sub\n./sub/f\n");
    mkdirSync(path.join(dir, "content"));
    await host.ok(["cp", `${box.id}:/work/cli4/.`, path.join(dir, "content")]);
    expect(readdirSync(path.join(dir, "content"))).toEqual(["sub"]);
    expect((await host.run(["cp", "-", `${box.id}:/work/stream`])).code).toBe(2);
    expect((await host.run(["cp", `${box.id}:/etc/passwd`, "-"])).code).toBe(2);
    await host.ok(["cp", `${source}/.`, `${box.id}:/work/cli2`]);
    expect(await host.ok(["fs", "ls", `${box.id}:/work/cli2/sub`])).toBe("f\n");
    await host.ok(["cp", `${box.id}:/work/cli2/sub/f`, path.join(dir, "f-out")]);
    expect(readFileSync(path.join(dir, "f-out"), "utf8")).toBe("in a directory");
    await host.ok(["fs", "rm", "-r", `${box.id}:/work/cli2`]);
    expect((await host.run(["fs", "stat", `${box.id}:/work/cli2`])).code).toBe(3);
    expect(await host.json<{ path: string }>(["fs", "stat", `${box.id}:/etc/passwd`])).toMatchObject({
      path: "/etc/passwd",
      kind: "file",
    });
    expect((await host.run(["cp", "a", "b"])).code).toBe(2);
  });
});
