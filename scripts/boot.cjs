#!/usr/bin/env node
// Becomes dist/bin/skim.js and dist/bin/mount-server.js: runs bundles beside it, from V8's code cache. Compiling the bundle takes longer than running it, and a
// start of a container waits for two of them; with a cache node starts as fast as it does with an empty program. V8 refuses a cache of another
// version of itself, or of a source of another length; then the bundle is compiled. The build always makes all anew.
"use strict";
const { readFileSync, renameSync, writeFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const path = require("node:path");
const vm = require("node:vm");

/** Bundles of the command line that hold some commands only; all others are in skim.bundle.cjs. */
const bundlesOf = {
  files: ["cp", "fs"],
  start: ["run", "mount", "umount", "rootfs", "bundle", "exec"],
};

const program = path.basename(__filename, ".js");
const command = process.argv[2];
const name =
  (program === "skim" && Object.keys(bundlesOf).find((bundle) => bundlesOf[bundle].includes(command))) || program;
if (name === "files") {
  const { setFlagsFromString } = require("node:v8");
  // They wait for pipes and disks: nothing gets faster by what these take, a quarter of all the memory (optimised code, and a young generation that has grown).
  setFlagsFromString("--no-opt");
  setFlagsFromString("--semi-space-growth-factor=1");
} else if (program === "skim") {
  require("./early-start.cjs").startEarly(process.argv.slice(2));
}
// Commands with caches of their own: others would have to read what only these run.
const part = name === "skim" && ["daemon", "index"].includes(command) ? command : name;

/** What has been loaded, by name. */
const bundles = new Map();

/** The exports of a bundle. */
function load(bundleName) {
  const known = bundles.get(bundleName);
  if (known) return known.exports;
  const bundle = { exports: {} };
  bundles.set(bundleName, bundle);
  const file = path.join(__dirname, `${bundleName}.bundle.cjs`);
  // Of what several programs load, each has what it runs.
  const cacheFile = path.join(__dirname, `${bundleName === name ? part : `${part}-${bundleName}`}.code-cache`);
  // A function of what node gives modules. ASCII, and a function, since the build (build-ts.mjs): decoding two megabytes of UTF-8 takes as long as loading the cache, and putting a
  // function around them here would copy them.
  const source = readFileSync(file, "latin1");
  // Code from a cache cannot import(): bundles require what is node's own.
  const script = new vm.Script(source, { filename: file, cachedData: readCache(cacheFile) });
  // When it is built: with what has been compiled by the end of a run. By rename: one that is cut short would be refused.
  if (process.env.SKIM_WRITE_CODE_CACHE) {
    process.on("exit", () => {
      writeFileSync(`${cacheFile}.${process.pid}`, script.createCachedData());
      renameSync(`${cacheFile}.${process.pid}`, cacheFile);
    });
  }
  const requireModule = createRequire(file);
  const requireFrom = (id) => {
    const other = /^\.\/(.+)\.bundle\.cjs$/.exec(id);
    return other ? load(other[1]) : requireModule(id);
  };
  script.runInThisContext()(bundle.exports, Object.assign(requireFrom, requireModule), bundle, file, __dirname);
  return bundle.exports;
}

function readCache(cacheFile) {
  try {
    return readFileSync(cacheFile);
  } catch {
    return undefined;
  }
}

load(name);
