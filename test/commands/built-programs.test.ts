import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { type EmbeddedRegistry, startEmbeddedRegistry } from "../../src/registry/embedded-registry.js";
import { writeTestImage } from "../support/oci-layout.js";
import { cliFile, makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

/** What the bundled programs (scripts/build-ts.mjs) spare a start: compiling their own code, and optimizing undici's parser. */
describe("the built programs", () => {
  let dir: string;
  let host: SkimHost;
  let registry: EmbeddedRegistry;

  beforeAll(async () => {
    dir = await makeTempDir("built-programs");
    host = await makeSkimHost();
    const layout = path.join(dir, "image");
    const tar = buildTar([
      { path: "bin/", type: "directory" },
      { path: "bin/busybox", content: await readFile("/bin/busybox"), mode: 0o755 },
      { path: "bin/true", type: "hardlink", link: "bin/busybox" },
      // Some 0.3 s to index: an optimizing compiler that has begun is seen.
      { path: "data", content: Buffer.concat([randomBytes(8 << 20), Buffer.alloc(120 << 20)]) },
    ]);
    await writeTestImage(layout, [{ tar }], { config: { Cmd: ["true"], Env: ["PATH=/bin"] } });
    registry = await startEmbeddedRegistry({ layout });
    return () => registry.close();
  });

  /** Runs a command. Resolves to the programs that it loaded, and whether V8 refused their caches. */
  async function loadedBy(args: readonly string[]): Promise<string[]> {
    const seen = path.join(dir, `seen-${args[0]}`);
    const hook = path.join(dir, "hook.cjs");
    await writeFile(
      hook,
      `const vm = require("node:vm");
      const { appendFileSync } = require("node:fs");
      vm.Script = class extends vm.Script {
        constructor(source, options) {
          super(source, options);
          const name = require("node:path").basename(options.filename);
          appendFileSync(process.env.SEEN, name + " " + (options.cachedData ? this.cachedDataRejected : "none") + "\\n");
        }
      };`,
    );
    await host.run(args, { env: { NODE_OPTIONS: `--require=${hook}`, SEEN: seen } });
    return (await readFile(seen, "utf8")).split("\n").filter(Boolean).sort();
  }

  it("run from V8's code cache, which a start with requests leaves as V8 wants it", async () => {
    expect(await loadedBy(["run", `${registry.host}/app:latest`, "--no-tty"])).toEqual([
      "mount-server.bundle.cjs false",
      "start.bundle.cjs false",
      // Of each, with its first request.
      "undici.bundle.cjs false",
      "undici.bundle.cjs false",
    ]);
  });

  it.each([
    [["fs", "stat", "nobody:/"], "files"],
    [["index", "oci:/nowhere"], "skim"],
    [["daemon", "status"], "skim"],
    [["ps"], "skim"],
  ])("run %j from a cache of the bundle that has it", async (args, bundle) => {
    expect(await loadedBy(args)).toEqual([`${bundle}.bundle.cjs false`]);
  });

  it("have in it what a mount server runs once it has a mount, and the command beside it", async () => {
    const holds = async (program: string, text: string) =>
      (await readFile(path.join(path.dirname(cliFile), `${program}.code-cache`))).includes(text);
    // Texts of functions that V8 compiles when they are first called: startMountServer, decoding in FetchRun, mounting an overlay.
    expect(await holds("mount-server", "unmounted")).toBe(true);
    expect(await holds("mount-server", "its bytes end too early")).toBe(true);
    expect(await holds("start", "lowerdir=")).toBe(true);
  });

  it("do not optimize the parser of HTTP", async () => {
    const log = path.join(dir, "v8.log");
    const args = ["--log-code", `--logfile=${log}`, "--no-logfile-per-isolate", cliFile];
    const child = spawn(process.execPath, [...args, "index", `${registry.host}/app:latest`], {
      env: { ...host.env, SKIM_CACHE_DIR: path.join(dir, "other-cache") },
      stdio: ["ignore", "ignore", "inherit"],
    });
    expect(await new Promise((resolve) => child.once("exit", resolve))).toBe(0);
    // code-creation,JS,4,2181391,0x216186212680,384,wasm-function[50],0x354c3a72,*   where it is optimized
    const made = (await readFile(log, "utf8")).split("\n").filter((line) => line.includes(",wasm-function["));
    expect(made.length).toBeGreaterThan(5);
    expect(made.filter((line) => line.endsWith("*"))).toEqual([]);
  });
});
