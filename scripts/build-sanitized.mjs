// Builds native/build/sanitized/skim.node and skim-holder with AddressSanitizer and UndefinedBehaviorSanitizer, for the tests in test/fuzz and test/holder; with
// --holder only the latter.
//
// Sources, include directories, definitions, flags and libraries are those of native/binding.gyp, but the compiler is called directly: node-gyp would
// share its build directory with the addon that others are using. What a source includes is noted by the compiler (-MMD), so only objects
// are made that are older than something they are made of. Files come into their place whole, by rename: the addon may be in use.
//
// A program that loads this addon must preload the sanitizers' libraries (native/README.md, "Debugging").
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";

const nativeDir = path.resolve(import.meta.dirname, "../native");
const buildDir = path.join(nativeDir, "build/sanitized");
const addon = path.join(buildDir, "skim.node");
// Each takes up to 400 MB.
const jobsMax = 2;

const [target, holderTarget] = readGyp(path.join(nativeDir, "binding.gyp")).targets;
const prefix = path.resolve(path.dirname(realpathSync(process.execPath)), "..");
const nodeHeaders = nodeHeadersDir();
const sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
const flags = [
  "-fPIC",
  "-pthread",
  "-g",
  "-O1",
  "-fno-omit-frame-pointer",
  ...sanitizers,
  ...target.defines.map((define) => `-D${define}`),
  ...expanded(target.include_dirs).map((dir) => `-I${path.resolve(nativeDir, dir)}`),
  // Their warnings are not ours.
  `-isystem${nodeHeaders}`,
  ...target.cflags_cc,
];
const libraries = target.libraries;

mkdirSync(buildDir, { recursive: true });
await buildHolder();
if (process.argv.includes("--holder")) process.exit(0);

// Objects of other flags, or of another compiler, are of no use.
const made = JSON.stringify([compilerVersion(), flags, libraries]);
const madeFile = path.join(buildDir, "flags.json");
const isSame = existsSync(madeFile) && readFileSync(madeFile, "utf8") === made;
if (!isSame) rmSync(madeFile, { force: true });

const objects = expanded(target.sources).map((source) => {
  const name = source.replaceAll("/", "-").replace(/\.cc$/, "");
  return { source, object: path.join(buildDir, `${name}.o`), dependencies: path.join(buildDir, `${name}.d`) };
});
const stale = objects.filter((item) => !isSame || isStale(item));
await Promise.all(Array.from({ length: jobsMax }, compileNext));
writeFileSync(madeFile, made);
if (objects.some(({ object }) => isNewer(object, addon))) {
  const output = `${addon}.${process.pid}`;
  const files = objects.map(({ object }) => object);
  await run(["-shared", "-pthread", ...sanitizers, "-o", output, ...files, ...libraries]);
  renameSync(output, addon);
}

/** A few small files, compiled and linked in one go. */
async function buildHolder() {
  const holder = path.join(buildDir, "skim-holder");
  const files = ["holder", "."].flatMap((dir) =>
    readdirSync(path.join(nativeDir, dir)).filter((name) => /\.(cc|h)$/.test(name)).map((name) => path.join(nativeDir, dir, name)),
  );
  if (!files.some((file) => isNewer(file, holder))) return;
  console.error("build-sanitized: holder");
  const output = `${holder}.${process.pid}`;
  const own = holderTarget.cflags_cc.filter((flag) => flag !== "-Os");
  await run(["-g", "-O1", "-fno-omit-frame-pointer", ...sanitizers, ...own, "-I.", ...expanded(holderTarget.sources), "-o", output]);
  renameSync(output, holder);
}

async function compileNext() {
  for (let item = stale.shift(); item; item = stale.shift()) {
    console.error(`build-sanitized: ${item.source}`);
    const object = `${item.object}.${process.pid}`;
    const dependencies = `${item.dependencies}.${process.pid}`;
    await run([...flags, "-MMD", "-MF", dependencies, "-MT", "object", "-c", item.source, "-o", object]);
    renameSync(dependencies, item.dependencies);
    renameSync(object, item.object);
  }
}

/** True where the object is not there, or older than its source or a file of ours that this includes. */
function isStale({ object, dependencies }) {
  if (!existsSync(object) || !existsSync(dependencies)) return true;
  // A rule of make: `object: a.cc b.h \`, in as many lines as it takes.
  const [, files] = readFileSync(dependencies, "utf8").split(/^object:/);
  return (files ?? "")
    .split(/[\s\\]+/)
    .filter((file) => file !== "")
    .some((file) => isNewer(path.resolve(nativeDir, file), object));
}

function isNewer(file, than) {
  if (!existsSync(file) || !existsSync(than)) return true;
  return statSync(file).mtimeMs > statSync(than).mtimeMs;
}

async function run(args) {
  const child = spawn("g++", args, { cwd: nativeDir, stdio: ["ignore", "inherit", "inherit"] });
  const status = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  if (status === 0) return;
  console.error("build-sanitized: the addon was not built; it needs: apt-get install -y g++ libdeflate-dev libisal-dev libzstd-dev");
  process.exit(1);
}

function compilerVersion() {
  return execFileSync("g++", ["--version"], { encoding: "utf8" }).split("\n")[0];
}

/** node's headers: beside the node that runs, else where node-gyp has put them. */
function nodeHeadersDir() {
  const beside = path.join(prefix, "include/node");
  if (existsSync(path.join(beside, "node_api.h"))) return beside;
  const config = readFileSync(path.join(nativeDir, "build/config.gypi"), "utf8");
  return path.join(/"nodedir": "([^"]+)"/.exec(config)[1], "include/node");
}

/** binding.gyp is JSON but for its comments, each on a line of its own. */
function readGyp(file) {
  return JSON.parse(readFileSync(file, "utf8").replace(/^\s*#.*$/gm, ""));
}

/** A list of gyp's with its commands, `<!(one word)` and `<!@(a list)`, replaced by what they print. */
function expanded(list) {
  return list.flatMap((item) => {
    const command = /^<!@?\((.*)\)$/.exec(item)?.[1];
    if (command === undefined) return [item];
    return execFileSync("sh", ["-c", command], { cwd: nativeDir, encoding: "utf8" }).split(/\s+/).filter(Boolean);
  });
}
