/**
 * `npm run bench -- SCENARIO [options]`: bundles bench/main.ts and the process that serves its mounts into dist/bench, and runs it; node 20 cannot run
 * TypeScript, and a bundle starts as the shipped programs do. Modules that look for files of the package must lie two directories below its root
 * (scripts/build-ts.mjs), and in dist/bench they do.
 *
 * `--no-setup` as the first argument leaves out scripts/setup.sh, for a checkout that must not be built anew just now.
 */
import { spawn, spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const args = process.argv.slice(2);
if (args[0] === "--no-setup") args.shift();
else {
  const setup = spawnSync(path.join(root, "scripts/setup.sh"), ["--for", "bench"], { stdio: "inherit" });
  if (setup.status !== 0) process.exit(setup.status ?? 1);
}

// Only now: setup may just have installed it.
const { rolldown } = await import("rolldown");
const built = path.join(root, "dist/bench");
rmSync(built, { recursive: true, force: true });
const bundle = await rolldown({
  input: {
    main: path.join(root, "bench/main.ts"),
    // Beside main.js, which starts them.
    server: path.join(root, "bench/engine/server-main.ts"),
    network: path.join(root, "bench/network/proxy-main.ts"),
    "read-pause": path.join(root, "bench/daemon/read-pause.ts"),
    "inflate-and-hash": path.join(root, "bench/start/inflate-and-hash.ts"),
  },
  platform: "node",
  // An addon that finds its binary from where it lies, and optional.
  external: ["fuse-native"],
});
await bundle.write({
  dir: built,
  format: "esm",
  entryFileNames: "[name].js",
  chunkFileNames: "[name]-[hash].js",
  sourcemap: true,
});
await bundle.close();

// Where this is set, node parses that file and its own certificates before anything else, 0.07 s of a processor in each process of a start. Nothing here speaks TLS.
const { NODE_EXTRA_CA_CERTS: _, ...environment } = process.env;
const child = spawn(process.execPath, ["--enable-source-maps", path.join(built, "main.js"), ...args], {
  env: environment,
  stdio: "inherit",
});
// Ctrl-C reaches the child by itself; this process stays until it has cleaned up.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.once("exit", (code, signal) => process.exit(signal ? 1 : (code ?? 1)));
