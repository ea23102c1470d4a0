import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { elf } from "../program/elf-builder.js";
import type { TarEntrySpec } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";
import { busyboxTree, failed, fixtureHost, makeFixture } from "./fixture-image.js";

const env = ["PATH=/bin"];

/** Images that somebody made to mislead, or to keep whoever looks busy. */
describe("a hostile image", () => {
  it("symlinks: forty are followed, more are not, and loops end", async () => {
    const chain = (count: number): TarEntrySpec[] =>
      Array.from({ length: count }, (_, i) => ({
        path: `l${i}`,
        link: i + 1 < count ? `l${i + 1}` : "bin/busybox",
      }));
    const forty = await makeFixture([...busyboxTree("sh"), ...chain(40)], { Cmd: ["/l0"] });
    expect(failed(await forty.examine())).toEqual([]);
    const more = await makeFixture([...busyboxTree("sh"), ...chain(41)], { Cmd: ["/l0"] });
    expect(failed(await more.examine())).toEqual(["entrypoint"]);
    expect((await more.run()).stderr).toMatch(/too many levels of symbolic links/);
    const loops = ["proc", "sys", "tmp", "dev", "run", "etc", "lib64", "lib", "home", "root", "work"].map(
      (name) => ({
        path: name,
        link: name,
      }),
    );
    const all = await makeFixture([{ path: "bin", link: "bin" }, ...loops], {
      Cmd: ["sh"],
      Env: env,
      WorkingDir: "/work",
      Volumes: { "/home/a": {}, "/a/../../..": {}, relative: {} },
    });
    const found = await all.examine({
      deps: true,
      toolProfile: "github-actions",
      directories: [{ path: "/root/x" }],
    });
    expect(failed(found)).toEqual(expect.arrayContaining(["directory", "mount", "entrypoint", "tool"]));
  });

  it("ELF headers that claim huge tables are read in small pieces, and told as damaged", async () => {
    const huge = (edit: (bytes: Buffer) => void) => {
      const bytes = elf({
        interpreter: "/lib64/ld.so",
        needed: Array(900).fill("liba.so"),
        padding: 5_000_000,
      });
      edit(bytes);
      return bytes;
    };
    const programs: TarEntrySpec[] = [
      { path: "headers", content: huge((bytes) => bytes.writeUInt16LE(0xffff, 56)) },
      { path: "offset", content: huge((bytes) => bytes.writeBigUInt64LE(0xffff_ffff_ffff_fff0n, 32)) },
      { path: "interpreter", content: huge((bytes) => bytes.writeBigUInt64LE(4_900_000n, 64 + 56 + 32)) },
      { path: "libraries", content: huge(() => {}) },
      {
        path: "many",
        content: elf({
          interpreter: "/bin/busybox",
          needed: Array.from({ length: 100_000 }, (_, i) => `${i}.so`),
        }),
      },
      { path: "short", content: Buffer.from("\x7fELF\x02\x01\x01", "latin1") },
      { path: "empty", content: "" },
    ].map((one) => ({ ...one, mode: 0o755 }));
    const fixture = await makeFixture([...busyboxTree("sh"), ...programs], { Cmd: ["/headers"] });
    for (const { path: name } of programs) {
      const { checks, bytesRead } = await fixture.examine({ args: [`/${name}`], deps: true });
      expect(bytesRead).toBeLessThan(1_000_000);
      const found = checks.filter(({ status, id }) => status === "fail" && ["format", "interp"].includes(id));
      expect(found).toHaveLength(1);
      // What only a loader reads, no kernel refuses.
      if (name === "many")
        expect(found[0]?.detail).toMatch(/^damaged: its dynamic section .* loader will refuse it/);
    }
  });

  it("search paths without end, and directories of a hundred thousand names", async () => {
    const paths = Array.from({ length: 5000 }, (_, i) => `/p${i}`).join(":");
    const program = elf({ interpreter: "/lib64/ld.so", needed: ["liba.so"], runpath: paths.slice(0, 4000) });
    const many = Array.from(
      { length: 100_000 },
      (_, i): TarEntrySpec => ({ path: `many/${i}`, content: "", mode: 0o4755 }),
    );
    const fixture = await makeFixture(
      [
        ...busyboxTree("sh"),
        { path: "app", content: program, mode: 0o755 },
        { path: "lib64/ld.so", content: elf({}), mode: 0o755 },
        ...many,
      ],
      { Cmd: ["/app"], Env: [`PATH=${paths}`, `LD_LIBRARY_PATH=${paths}`] },
    );
    const { checks } = await fixture.examine({ deps: true, tools: ["a", "b"] });
    expect(checks.find(({ id }) => id === "libraries")).toMatchObject({ status: "fail" });
    const setuid = checks.find(({ id }) => id === "setuid");
    expect(setuid?.detail).toMatch(/^100000: \/many\/0, .* and 99960 more$/);
    expect(JSON.stringify(checks).length).toBeLessThan(200_000);
  });

  it("a thousand libraries that are missing are told in twenty lines; where search paths have no end, nothing is said of what lies behind it", async () => {
    const needed = Array.from({ length: 1000 }, (_, i) => `lib${i}.so`);
    const paths = Array.from({ length: 20_000 }, (_, i) => `/p${i}`).join(":");
    const fixture = await makeFixture(
      [
        ...busyboxTree("sh"),
        { path: "app", content: elf({ interpreter: "/lib64/ld.so", needed }), mode: 0o755 },
        { path: "lib64/ld.so", content: elf({}), mode: 0o755 },
      ],
      { Cmd: ["/app"] },
    );
    const missing = await fixture.check("libraries", { deps: true });
    expect(missing).toHaveLength(21);
    expect(missing.at(-1)?.detail).toBe("needs 980 more libraries that are not found");
    expect(await fixture.check("libraries", { deps: true, env: [`LD_LIBRARY_PATH=${paths}`] })).toMatchObject(
      [{ status: "warn", detail: expect.stringMatching(/^1000 of its libraries were not looked for/) }],
    );
    const [nowhere] = await fixture.check("entrypoint", { args: ["nope"], env: [`PATH=${paths}`] });
    expect(nowhere?.detail).toMatch(/^in none of \/p0:\/p1:.*:\/p15 and 19984 more \(/);
  });

  it("names that are no text, and names that would steer a terminal, are shown escaped", async () => {
    const name = Buffer.from("bin/\x1b[2Jesc\n\xff", "latin1");
    const fixture = await makeFixture(
      [
        ...busyboxTree("sh"),
        { path: name, content: "x", mode: 0o4755 },
        { path: "app", content: Buffer.from("#!/bin/\x1b[31m\xfe \n", "latin1"), mode: 0o755 },
      ],
      { Cmd: ["/app"], Env: ["PATH=/bin\n/x"], User: "we\x1bb\n", WorkingDir: "/a\nb" },
    );
    const host = await fixtureHost();
    const { stdout } = await host.run(["doctor", fixture.image]);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be there
    expect(stdout).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f\x80-\x9f]/);
    expect(stdout).toContain("/bin/\\x1b[2Jesc\\x0a\\xff");
    expect(stdout).toMatch(
      /^FAIL script \/app: its first line names \/bin\/\\x1b\[31m\\xfe, not in the image/m,
    );
    for (const line of stdout.trimEnd().split("\n")) expect(line).toMatch(/^(OK|WARN|FAIL) [a-z-]+|^oci:/);
    const examination = await fixture.examine();
    expect(JSON.parse(JSON.stringify(examination))).toEqual(examination);
  });

  it("injected trees: a FIFO, a loop, a file that nobody may read, and names that are no text", async () => {
    const dir = await makeTempDir("hostile");
    await mkdir(path.join(dir, "deep"));
    execFileSync("mkfifo", [path.join(dir, "pipe")]);
    execFileSync("ln", ["-s", "..", path.join(dir, "deep/up")]);
    await writeFile(
      Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0x0a])]),
      elf({ interpreter: "/no" }),
      {
        mode: 0o755,
      },
    );
    const fixture = await makeFixture(busyboxTree("sh"), { Cmd: ["sh"], Env: env });
    const injected = [{ host: dir, path: "/x" }];
    expect(await fixture.check("interp", { injected, deps: true })).toMatchObject([
      {
        status: "fail",
        path: "/x/\\xff\\x0a",
        detail: expect.stringMatching(/^needs \/no, not in the image/),
      },
    ]);
    expect(failed(await fixture.examine({ injected, entrypoint: ["/x/pipe"] }))).toEqual([
      "executable",
      "interp",
    ]);
    expect(await fixture.check("mount", { injected: [{ host: "/dev/null", path: "/x" }] })).toMatchObject([
      { status: "ok", path: "/x" },
    ]);
  });
});
