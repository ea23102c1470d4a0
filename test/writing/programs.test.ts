import { execFile } from "node:child_process";
import { chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { debianLayout } from "../support/debian-image.js";
import { engines } from "../support/engines.js";
import { look } from "../support/look.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { makeTempDir } from "../support/temp-dir.js";
import type { DumpLine } from "../support/tree-dump.js";
import { changesSince, type Rootfs, viewOf, WritingPlace } from "./writable-rootfs.js";

const exec = promisify(execFile);

describe("programs that write, in a Debian image", () => {
  let dir: string;
  let image: string;
  let host: SkimHost;
  /** Neither the lower nor a fresh rootfs has ever another view than this one. */
  let pristine: DumpLine[];

  const mount = async (id: string, ...options: string[]) =>
    await host.json<Rootfs>(["rootfs", "mount", image, "--id", id, ...options]);

  beforeAll(async () => {
    dir = await makeTempDir("programs");
    host = await makeSkimHost();
    image = path.join(dir, "debian.skim");
    await host.ok(["index", `oci:${await debianLayout()}:debian`, "-o", image]);
    const { id, merged } = await mount("pristine");
    pristine = await viewOf(merged);
    await host.ok(["rootfs", "umount", id]);
  });

  afterAll(async () => {
    const { id, lower, merged } = await mount("afterwards");
    expect(await changesSince(pristine, merged)).toEqual([]);
    expect(await changesSince(pristine, lower)).toEqual([]);
    await host.ok(["rootfs", "umount", id]);
    expect(await host.leftovers()).toEqual([]);
  });

  it("dpkg installs a package, upgrades and verifies it, replacing what the image and the version before had", async () => {
    const upper = path.join(dir, "dpkg");
    const packages = path.join(dir, "packages");
    await buildPackage(packages, "1");
    await buildPackage(packages, "2");
    const inContainer = async (...command: string[]) =>
      await host.ok([
        ...[
          "run",
          image,
          "--upper",
          upper,
          "--mount",
          `type=bind,source=${packages},target=/packages,readonly`,
        ],
        ...["--", ...command],
      ]);
    await inContainer("dpkg", "-i", "/packages/skim-note_1.deb");
    expect(await inContainer("/usr/bin/skim-note")).toBe("version 1\n");
    await inContainer("dpkg", "-i", "/packages/skim-note_2.deb");
    expect(await inContainer("/usr/bin/skim-note")).toBe("version 2\n");
    expect(await inContainer("dpkg", "--verify", "skim-note")).toBe("");
    expect(await inContainer("dpkg", "--verify", "python3-numpy")).toBe("");
    expect(await inContainer("dpkg", "--audit")).toBe("");
    const status = (await inContainer("dpkg", "--status", "skim-note")).split("\n");
    expect(status).toEqual(expect.arrayContaining(["Status: install ok installed", "Version: 2"]));

    const { id, merged } = await mount("installed", "--upper", upper);
    expect(await readFile(path.join(merged, "var/log/skim-note"), "utf8")).toBe(
      "configured 1\nconfigured 2\n",
    );
    const changed = await changesSince(pristine, merged, 1000);
    expect(changed).toContain('"usr/bin/skim-note": not expected');
    expect(changed.filter((line) => line.endsWith("missing"))).toEqual([]);
    await host.ok(["rootfs", "umount", id]);

    await inContainer("dpkg", "--purge", "skim-note");
    const again = await mount("purged", "--upper", upper);
    // dpkg's own records change, and the times of the directories that it wrote in.
    const left = await changesSince(pristine, again.merged, 1000);
    expect(left.filter((line) => !line.startsWith('"var/') && !line.includes(": mtime"))).toEqual(
      // What skim run has mounted something on.
      ['"etc/hosts": not expected', '"packages": not expected'],
    );
    await host.ok(["rootfs", "umount", again.id]);
  });

  it("git clones a repository into it, commits, collects garbage and clones there again with hard links", async () => {
    const source = path.join(dir, "source");
    await mkdir(source);
    const git = async (where: string, ...args: string[]) =>
      (await exec("git", ["-C", where, ...args], { env: gitEnv })).stdout.trim();
    await git(source, "init", "--quiet", "--initial-branch", "main");
    for (let i = 0; i < 5; i++) {
      await writeFile(path.join(source, `file-${i}`), `content ${i}\n`.repeat(1000));
      await git(source, "add", ".");
      await git(source, "commit", "--quiet", "-m", `commit ${i}`);
    }
    const { id, merged } = await mount("git");
    const clone = path.join(merged, "srv/clone");
    await git(merged, "clone", "--quiet", `file://${source}`, clone);
    expect(await git(clone, "rev-parse", "HEAD")).toBe(await git(source, "rev-parse", "HEAD"));
    await writeFile(path.join(clone, "file-0"), "changed\n");
    await git(clone, "commit", "--quiet", "-am", "changed");
    await git(clone, "gc", "--quiet");
    await git(clone, "fsck", "--strict", "--full");
    expect(await git(clone, "status", "--porcelain")).toBe("");
    await git(merged, "clone", "--quiet", clone, path.join(merged, "srv/second"));
    const packs = (await exec("find", [clone, "-name", "*.pack", "-printf", "%n\n"])).stdout;
    expect(packs).toBe("2\n");
    await git(path.join(merged, "srv/second"), "fsck", "--strict", "--full");
    await host.ok(["rootfs", "umount", id]);
  });

  it("Python keeps an SQLite database in WAL mode, in one container and in the next", async () => {
    const upper = path.join(dir, "database");
    const program = `
import sqlite3
db = sqlite3.connect("/var/lib/notes.db", isolation_level=None)
mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
db.execute("CREATE TABLE IF NOT EXISTS notes (text)")
db.execute("BEGIN")
db.executemany("INSERT INTO notes VALUES (?)", [["x" * 1000]] * 1000)
db.execute("COMMIT")
print(mode, db.execute("SELECT count(*), sum(length(text)) FROM notes").fetchone(), db.execute("PRAGMA integrity_check").fetchone()[0])`;
    const run = async () => await host.ok(["run", image, "--upper", upper, "--", "python3", "-c", program]);
    expect(await run()).toBe("wal (1000, 1000000) ok\n");
    expect(await run()).toBe("wal (2000, 2000000) ok\n");
  });
});

/** What every program below begins with: `db` opens the database as sqlite3 does it, outside of transactions. */
const openDatabase = `
import sqlite3
db = lambda: sqlite3.connect(os.fsdecode(root), isolation_level=None, timeout=30)
def state(c):
    return [*c.execute("SELECT count(*), sum(value) FROM numbers").fetchone(), c.execute("PRAGMA integrity_check").fetchone()[0]]
`;

describe.each(engines)("an SQLite database of the image, with engine %s", (engine) => {
  it("takes transactions of several processes in WAL mode, survives their death, and the image's stays as it is", async () => {
    const made = path.join(await makeTempDir("database"), "numbers.db");
    await look(
      `${openDatabase}
c = db()
c.execute("CREATE TABLE numbers (value)")
c.execute("BEGIN")
c.executemany("INSERT INTO numbers VALUES (?)", [[i] for i in range(20000)])
c.execute("COMMIT")
c.close()
tell(None)`,
      made,
    );
    const content = await readFile(made);
    const place = await WritingPlace.open([{ path: "data/" }, { path: "data/numbers.db", content }]);
    const first = await place.mount("first", "--engine", engine);
    const lower = await viewOf(first.lower);
    const told = await look(
      `${openDatabase}
reader = db()
before = state(reader)
mode = reader.execute("PRAGMA journal_mode=WAL").fetchone()[0]
reader.execute("BEGIN")
snapshot = state(reader)
def write():
    c = db()
    for _ in range(50):
        c.execute("BEGIN IMMEDIATE")
        c.execute("INSERT INTO numbers VALUES (1)")
        c.execute("COMMIT")
    # Dies with the log as it is: nothing is written back to the database.
    os._exit(0)
pids = []
for _ in range(4):
    pid = os.fork()
    if pid == 0: write()
    pids.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in pids]
still = state(reader)
reader.execute("COMMIT")
tell([before, mode, snapshot == still, codes, state(reader), os.stat(root + b"-wal").st_size > 0])`,
      path.join(first.merged, "data/numbers.db"),
    );
    const sum = (20_000 * 19_999) / 2;
    const after = [20_200, sum + 200, "ok"];
    expect(told).toEqual([[20_000, sum, "ok"], "wal", true, [0, 0, 0, 0], after, true]);
    expect(await changesSince(lower, first.lower)).toEqual([]);
    const upper = await place.umount("first", "--keep-upper");

    const ask = `${openDatabase}
tell(state(db()))`;
    const again = await place.mount("again", "--engine", engine, "--upper", upper);
    expect(await look(ask, path.join(again.merged, "data/numbers.db"))).toEqual(after);
    await place.umount("again");
    await rm(path.dirname(upper), { recursive: true });
    const second = await place.mount("second", "--engine", engine);
    expect(await changesSince(lower, second.merged)).toEqual([]);
    await place.umount("second");
    await place.close();
  });
});

const gitEnv = {
  ...process.env,
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_SYSTEM: "/dev/null",
  ...Object.fromEntries(
    ["AUTHOR", "COMMITTER"].flatMap((who) => [
      [`GIT_${who}_NAME`, "Test"],
      [`GIT_${who}_EMAIL`, "test@example.com"],
    ]),
  ),
};

/** A package with a program, a configuration file and a script that runs when it is configured: `<dir>/skim-note_<version>.deb`. */
async function buildPackage(dir: string, version: string): Promise<void> {
  const tree = path.join(dir, `tree-${version}`);
  for (const below of ["DEBIAN", "usr/bin", "etc"]) await mkdir(path.join(tree, below), { recursive: true });
  const control = [
    "Package: skim-note",
    `Version: ${version}`,
    "Architecture: all",
    "Maintainer: Test <test@example.com>",
    "Description: writes a note",
  ];
  await writeFile(path.join(tree, "DEBIAN/control"), `${control.join("\n")}\n`);
  await writeFile(path.join(tree, "DEBIAN/conffiles"), "/etc/skim-note.conf\n");
  const script = `#!/bin/sh\nif [ "$1" = configure ]; then echo configured ${version} >> /var/log/skim-note; fi\n`;
  await writeFile(path.join(tree, "DEBIAN/postinst"), script, { mode: 0o755 });
  await writeFile(path.join(tree, "etc/skim-note.conf"), "a setting\n");
  const program = path.join(tree, "usr/bin/skim-note");
  await writeFile(program, `#!/bin/sh\necho version ${version}\n`);
  await chmod(program, 0o755);
  const built = path.join(dir, `skim-note_${version}.deb`);
  await exec("dpkg-deb", ["--root-owner-group", "--build", tree, built]);
}
