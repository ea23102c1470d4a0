/**
 * The demo: makes an image (demo-image.mjs), serves it from the embedded registry, starts it lazily with `skim run`, then once more in the
 * usual way (skopeo copy, umoci unpack, runc run) from the same registry, and prints both side by side. Everything it makes is in
 * one temporary directory and is gone at the end.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { makeDemoImage } from "./demo-image.mjs";

const cli = path.resolve(import.meta.dirname, "../dist/bin/skim.js");
const work = await mkdtemp(path.join(tmpdir(), "skim-demo-"));
const environment = { ...process.env, SKIM_CACHE_DIR: path.join(work, "cache"), SKIM_RUN_DIR: path.join(work, "run") };

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const seconds = (ms) => `${(ms / 1000).toFixed(2)} s`;
const say = (text = "") => console.log(text);

/** Runs a command to its end. Throws with what it wrote when it fails. */
function run(command, args, options = {}) {
  const result = spawnSync(command, args, { env: environment, encoding: "utf8", maxBuffer: 1 << 26, ...options });
  if (result.error) throw new Error(`${command} cannot be started: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`${command} ${args.join(" ")} failed (${result.status}):\n${result.stdout}${result.stderr}`);
  return result.stdout;
}
const skim = (...args) => run(process.execPath, [cli, ...args]);

/** Starts a command and waits for its first line of output; resolves to that line, when it came, and the command's end. */
async function firstOutput(command, args, options = {}) {
  const started = performance.now();
  const child = spawn(command, args, { env: environment, stdio: ["ignore", "pipe", "inherit"], ...options });
  const ended = new Promise((resolve, reject) => child.once("error", reject).once("exit", (code) => resolve(code)));
  let first;
  for await (const line of createInterface({ input: child.stdout })) first ??= { line, ms: performance.now() - started };
  const code = await ended;
  if (code !== 0 || !first) throw new Error(`${command} ${args.join(" ")} ended with ${code}${first ? "" : " and said nothing"}`);
  return { ...first, totalMs: performance.now() - started };
}

/** `skim registry serve` with a count of what it answered, from its log. */
async function startRegistry(layout) {
  const child = spawn(process.execPath, [cli, "registry", "serve", `oci:${layout}`, "--json", "--log-level", "debug"], {
    env: environment,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const counts = { requests: 0, bytes: 0 };
  createInterface({ input: child.stderr }).on("line", (line) => {
    const event = JSON.parse(line);
    if (event.msg !== "request served") return;
    counts.requests++;
    counts.bytes += event.bodyBytes;
  });
  let text = "";
  for await (const piece of child.stdout.setEncoding("utf8")) {
    text += piece;
    if (text.includes("}")) break;
  }
  const ended = new Promise((resolve) => child.once("exit", resolve));
  return {
    host: JSON.parse(text).host,
    take: async () => {
      // The log of the last request may still be on its way.
      await new Promise((resolve) => setTimeout(resolve, 50));
      return { ...counts, ...void Object.assign(counts, { requests: 0, bytes: 0 }) };
    },
    stop: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

async function fullUnpack(image) {
  const started = performance.now();
  const layout = path.join(work, "pulled");
  run("skopeo", ["copy", "--quiet", "--src-tls-verify=false", `docker://${image}`, `oci:${layout}:latest`]);
  const pulledMs = performance.now() - started;
  const bundle = path.join(work, "unpacked");
  run("umoci", ["unpack", "--image", `${layout}:latest`, bundle]);
  const unpackedMs = performance.now() - started;
  const configFile = path.join(bundle, "config.json");
  const config = JSON.parse(await readFile(configFile, "utf8"));
  config.process.terminal = false;
  config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "network");
  await writeFile(configFile, JSON.stringify(config));
  const stateDir = path.join(work, "runc");
  const output = await firstOutput("runc", ["--root", stateDir, "run", "--bundle", bundle, "skim-demo-full"]);
  return { firstMs: unpackedMs + output.ms, pulledMs, unpackedMs, line: output.line };
}

function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows) say(`  ${row.map((cell, column) => (column ? cell.padStart(widths[column]) : cell.padEnd(widths[0]))).join("   ")}`);
}

let registry;
try {
  say("making an image from this machine's node and npm ...");
  const layout = path.join(work, "image");
  const made = await makeDemoImage(layout);
  registry = await startRegistry(layout);
  const image = `${registry.host}/demo:latest`;
  say(`  ${made.files} files in 3 layers, ${megabytes(made.uncompressedBytes)}, ${megabytes(made.compressedBytes)} compressed; served at ${image}`);

  say("\nskim index (once for an image)");
  const indexed = JSON.parse(skim("index", image, "--json"));
  const indexing = await registry.take();
  say(`  ${megabytes(indexing.bytes)} read in ${seconds(indexed.durationMs)}; the archive has ${megabytes(indexed.archiveBytes)}`);

  say("\nskim run (nothing cached)");
  const cold = await firstOutput(process.execPath, [cli, "run", indexed.archive]);
  const coldFetch = await registry.take();
  say(`  ${cold.line}`);

  say("\nskim run (again)");
  const warm = await firstOutput(process.execPath, [cli, "run", indexed.archive]);
  const warmFetch = await registry.take();
  say(`  ${warm.line}`);

  say("\nskopeo copy, umoci unpack, runc run");
  const full = await fullUnpack(image);
  const fullFetch = await registry.take();
  say(`  ${full.line}`);

  const percent = (bytes) => `${((100 * bytes) / made.compressedBytes).toFixed(0)} %`;
  say(`\nimage ${megabytes(made.compressedBytes)} compressed, archive ${megabytes(indexed.archiveBytes)}\n`);
  table([
    ["", "lazy, cold", "lazy, again", "full unpack"],
    ["fetched", megabytes(coldFetch.bytes), megabytes(warmFetch.bytes), megabytes(fullFetch.bytes)],
    ["of the image", percent(coldFetch.bytes), percent(warmFetch.bytes), percent(fullFetch.bytes)],
    ["requests", String(coldFetch.requests), String(warmFetch.requests), String(fullFetch.requests)],
    ["first output after", seconds(cold.ms), seconds(warm.ms), seconds(full.firstMs)],
    ["  of it pull", "-", "-", seconds(full.pulledMs)],
    ["  of it unpack", "-", "-", seconds(full.unpackedMs - full.pulledMs)],
  ]);
  say("\nThe registry is on this machine: no latency, memory speed. Every network makes the full unpack wait longer.");
} catch (error) {
  console.error(`demo: ${error.message}`);
  process.exitCode = 1;
} finally {
  await registry?.stop();
  await rm(work, { recursive: true, force: true });
}
