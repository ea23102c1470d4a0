import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { parseRounds } from "../../src/bench/image-starts.js";
import { writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

interface Benched {
  readonly line: string;
  readonly imageBytes: number;
  readonly figures: readonly {
    readonly name: string;
    readonly rows: readonly {
      readonly system: string;
      readonly samples: readonly number[];
      readonly median: number;
    }[];
  }[];
}

describe("skim bench", () => {
  let host: SkimHost;
  let dir: string;
  let image: string;

  beforeAll(async () => {
    dir = await makeTempDir("bench");
    host = await makeSkimHost();
    const tar = buildTar([
      { path: "bin/", type: "directory" },
      { path: "bin/busybox", content: await readFile("/bin/busybox"), mode: 0o755 },
      ...["sh", "echo", "id"].map((name) => ({
        path: `bin/${name}`,
        type: "hardlink" as const,
        link: "bin/busybox",
      })),
      { path: "etc/", type: "directory" },
      { path: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/:/bin/sh\n" },
    ]);
    await writeTestImage(path.join(dir, "image"), [{ tar }], {
      config: { Cmd: ["sh", "-c", "echo from cmd"], Env: ["PATH=/bin"], User: "app" },
    });
    image = `oci:${path.join(dir, "image")}`;
  });

  const bench = (...args: string[]) => ["bench", image, "--work-dir", dir, ...args];

  it("measures each kind of start in each round, and what had to come for it", async () => {
    const page = path.join(dir, "page.html");
    const options = ["--rounds", "2", "--html", page, "--json"];
    const benched: Benched = JSON.parse(await host.ok(bench(...options, "--", "id", "-u")));
    // The image's own user, also in the tree that was unpacked.
    expect(benched.line).toBe("1234");
    expect(benched.figures.map(({ name }) => name)).toEqual(["start", "bytes"]);
    for (const { rows } of benched.figures) for (const { samples } of rows) expect(samples).toHaveLength(2);
    const bytes = new Map(benched.figures[1]!.rows.map(({ system, median }) => [system, median]));
    expect(bytes.get("skim, cold")).toBeGreaterThan(0);
    expect(bytes.get("skim, second start")).toBe(0);
    expect(bytes.get("skim unpack, runc")).toBeCloseTo(benched.imageBytes / 1e6, 6);
    expect(await readFile(page, "utf8")).toContain("skim unpack, runc");
  });

  it("touches neither the user's cache nor leaves anything of its own", async () => {
    expect(await host.ok(bench("--rounds", "1"))).toMatch(/printed {2}from cmd/);
    expect(await readdir(host.cacheDir).catch(() => [])).toEqual([]);
    expect((await readdir(dir)).filter((name) => name.startsWith("skim-bench-"))).toEqual([]);
    expect(await host.leftovers()).toEqual([]);
  });

  it("says so when the command prints no line, or fails, and leaves nothing", async () => {
    const silent = await host.run(bench("--rounds", "1", "--", "sh", "-c", ":"));
    expect(silent).toMatchObject({ code: 11, stdout: "" });
    expect(silent.stderr).toMatch(/RUNTIME_FAILED: .*printed no line/);
    const failed = await host.run(bench("--rounds", "1", "--", "sh", "-c", "echo up; exit 3"));
    expect(failed.code).toBe(11);
    expect(failed.stderr).toMatch(/RUNTIME_FAILED: .*ended with 3/);
    expect((await readdir(dir)).filter((name) => name.startsWith("skim-bench-"))).toEqual([]);
  });

  it("refuses a number of rounds that is none", async () => {
    expect(await host.run(bench("--rounds", "0"))).toMatchObject({ code: 2 });
    expect(() => parseRounds("1.5")).toThrow(/from 1 to 1000/);
    expect(parseRounds("7")).toBe(7);
  });
});
