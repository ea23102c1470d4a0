// Makes dist/: the library, as tsc compiles it, and in dist/bin the two programs, skim.js and mount-server.js, bundled with what they
// use of node_modules. skim.js is three bundles; the command chooses (boot.cjs).
//
// A start of a container starts both, and node takes longer to find and load 250 small files than to run what is in them: bundled, each
// program is up in less than half the time.
// Modules that look for files of the package may lie in src/ROOM, dist/ROOM or dist/bin:
// always two directories below its root.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { rolldown } from "rolldown";
import { writeWarmUpImage } from "./warm-up-image.mjs";

const root = path.resolve(import.meta.dirname, "..");
const dist = path.join(root, "dist");
mkdirSync(dist, { recursive: true });
// What was compiled from a file that is gone goes; dist/bin is replaced at once when the new one is there.
for (const name of readdirSync(dist)) if (name !== "bin") rmSync(path.join(dist, name), { recursive: true });
const tsc = spawnSync("npx", ["tsc", "-p", "tsconfig.json"], { cwd: root, stdio: "inherit" });
if (tsc.status !== 0) process.exit(tsc.status ?? 1);

const built = path.join(root, "dist/bin.new");
rmSync(built, { recursive: true, force: true });
mkdirSync(built, { recursive: true });

/** Where the main bundle finds what was started before it; see src/early-start.ts. */
const earlyStart = {
  name: "early-start",
  resolveId: (id) => (id.endsWith("/server-process.js") ? { id: "./early-start.cjs", external: true } : null),
};
/** undici is a bundle of its own, which is loaded with the first request: a start of what is cached makes none, and another one connects meanwhile. */
const undiciApart = {
  name: "undici-apart",
  resolveId: (id) => (id === "undici" ? { id: "./undici.bundle.cjs", external: true } : null),
};
/** Texts of zod in forty languages, which its index exports: skim has its own. */
const withoutLocales = {
  name: "without-locales",
  resolveId: (id, importer) =>
    id === "../locales/index.js" && importer?.includes("/node_modules/zod/") ? { id: "\0no-locales" } : null,
  load: (id) => (id === "\0no-locales" ? "export {};" : null),
};
/** undici's HTTP/2, which skim does not use (`allowH2: false`): node's module for it takes longer to load than all the rest of undici. */
const withoutHttp2 = {
  name: "without-http2",
  resolveId: (id) => (id === "./client-h2.js" ? { id: "\0no-http2" } : null),
  load: (id) =>
    id === "\0no-http2" ? 'module.exports = () => { throw new Error("skim does not speak HTTP/2"); };' : null,
};
const bundles = [
  { input: "src/early-start.ts", file: "early-start.cjs" },
  { input: "scripts/undici-parts.cjs", file: "undici.bundle.cjs" },
  { input: "src/cli.ts", file: "skim.bundle.cjs", plugins: [earlyStart, undiciApart] },
  { input: "src/files-cli.ts", file: "files.bundle.cjs", plugins: [undiciApart] },
  { input: "src/start-cli.ts", file: "start.bundle.cjs", plugins: [earlyStart, undiciApart] },
  { input: "src/mount/mount-server-main.ts", file: "mount-server.bundle.cjs", plugins: [undiciApart] },
];
for (const { input, file, plugins = [] } of bundles) {
  const bundle = await rolldown({
    input: path.join(root, input),
    platform: "node",
    plugins: [...plugins, withoutLocales, withoutHttp2],
    // An addon that finds its binary from where it lies, and optional.
    external: ["fuse-native"],
  });
  const { output } = await bundle.write({
    file: path.join(built, file),
    format: "cjs",
    // One file, which is read once: what a command does not use is not run, nor compiled.
    codeSplitting: false,
    sourcemap: true,
    // Names stay, for stacks that can be read.
    minify: { compress: false, mangle: false, codegen: { removeWhitespace: true } },
  });
  await bundle.close();
  // See boot.cjs. Node's own modules are loaded with the first of them anyway: import them statically.
  const code = output[0].code.replace(
    /\bimport\((`\.\/[\w-]+\.bundle\.cjs`)\)/g,
    (_, bundle) => `Promise.resolve().then(()=>require(${bundle}))`,
  );
  const dynamic = /\bimport\(`[^`]*`\)/.exec(code);
  if (dynamic) throw new Error(`${file} has ${dynamic[0]}, which cannot run from a code cache`);
  // See boot.cjs. Strings, templates and regular expressions, where these characters are, take the escape for the character.
  const escaped = code.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  // On the first line, and early-start.cjs is a module like others.
  const isBooted = file.endsWith(".bundle.cjs");
  const wrapped = isBooted ? `(function (exports, require, module, __filename, __dirname) {${escaped}\n})` : escaped;
  if (wrapped !== output[0].code) writeFileSync(path.join(built, file), wrapped);
}
for (const name of ["skim", "mount-server"])
  copyFileSync(path.join(root, "scripts/boot.cjs"), path.join(built, `${name}.js`));
// The package's own says "module".
writeFileSync(path.join(built, "package.json"), '{ "type": "commonjs" }\n');
chmodSync(path.join(built, "skim.js"), 0o755);
rmSync(path.join(root, "dist/bin"), { recursive: true, force: true });
renameSync(built, path.join(root, "dist/bin"));

// Runs that leave nothing, but go through what every start goes through, and indexing. Each adds to the cache of the one before it. Not built for tests of the library
// alone, nor where the addon is missing or nobody may mount: then the cache has less in it, or there is none.
const scratch = mkdtempSync(path.join(os.tmpdir(), "skim-warm-up-"));
try {
  const image = path.join(scratch, "image");
  await writeWarmUpImage(image);
  warmUp("skim", ["run", "/nowhere/warm-up.skim"]);
  warmUp("skim", ["index", `oci:${image}`, "-o", path.join(scratch, "warm-up.skim")]);
  warmUp("mount-server", []);
  warmUp("skim", ["cp", image, "warm-up:/"]);
  warmUp("skim", ["fs", "stat", "warm-up:/"]);
  const registry = await serve(image);
  try {
    // The second one has a profile to go by, and nothing in the cache.
    for (const command of [["profile", "record"], ["run"]]) {
      warmUp("skim", [...command, `${registry.host}/warm-up:latest`, "--no-tty"]);
      rmSync(path.join(warmUpEnvironment().SKIM_CACHE_DIR, "layers"), { recursive: true, force: true });
    }
    await warmUpDaemon(`${registry.host}/warm-up:latest`);
  } finally {
    await registry.close();
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function warmUp(program, args, environment = { SKIM_WRITE_CODE_CACHE: "1" }) {
  spawnSync(process.execPath, [path.join(root, "dist/bin", `${program}.js`), ...args], {
    stdio: "ignore",
    env: { ...warmUpEnvironment(), ...environment },
    // They take a second each.
    timeout: 60_000,
  });
}

/** A daemon that mounts, one that takes over from it, and a start through a third one: each program ends before the next one adds to its cache. */
async function warmUpDaemon(image) {
  const withoutCache = {};
  for (const args of [["rootfs", "mount", image, "--id", "warm-up"], undefined]) {
    const daemon = startDaemon({ SKIM_WRITE_CODE_CACHE: "1" });
    if (!(await daemon.isReady)) return;
    if (args) warmUp("skim", args, withoutCache);
    // What is mounted waits for the next one.
    if (args) daemon.child.kill("SIGTERM");
    else warmUp("skim", ["daemon", "stop", "--force"], withoutCache);
    await daemon.ended;
  }
  const daemon = startDaemon(withoutCache);
  if (!(await daemon.isReady)) return;
  warmUp("skim", ["run", image, "--no-tty"]);
  warmUp("skim", ["daemon", "stop", "--force"], withoutCache);
  await daemon.ended;
}

function startDaemon(environment) {
  const child = spawn(process.execPath, [path.join(root, "dist/bin/skim.js"), "daemon", "--no-restart"], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...warmUpEnvironment(), ...environment },
    timeout: 60_000,
  });
  const ended = once(child, "exit").catch(() => {});
  const isReady = new Promise((resolve) => {
    let text = "";
    child.stderr.setEncoding("utf8").on("data", (piece) => {
      text += piece;
      if (text.includes('"msg":"ready"')) resolve(true);
    });
    void ended.then(() => resolve(false));
  });
  return { child, ended, isReady };
}

/** Nothing of what is cached, mounted or set up on this host. */
function warmUpEnvironment() {
  const directories = { SKIM_CACHE_DIR: path.join(scratch, "cache"), SKIM_RUN_DIR: path.join(scratch, "run") };
  return { ...process.env, ...directories, SKIM_CONFIG: "/dev/null" };
}

/** A registry with the OCI layout `image`, by the program that was just built. */
async function serve(image) {
  const args = [path.join(root, "dist/bin/skim.js"), "registry", "serve", `oci:${image}`, "--json"];
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "ignore"],
    env: warmUpEnvironment(),
  });
  const ended = once(child, "exit");
  let text = "";
  for await (const piece of child.stdout.setEncoding("utf8")) {
    text += piece;
    if (text.includes("}")) break;
  }
  return {
    host: text.includes("}") ? JSON.parse(text).host : "nowhere.invalid",
    close: async () => {
      child.kill();
      await ended;
    },
  };
}
