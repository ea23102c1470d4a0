// Builds native/build/Release/skim.node with node-gyp, or what of it has changed since.
//
// node-gyp downloads node's headers unless it is told where they are. A node from a package or a tarball has them beside it,
// in PREFIX/include/node; those are used, so that the build needs no network and fits the node that runs it. Where they are not there,
// node-gyp goes its own way (npm's `nodedir`, or the download).

import { spawnSync } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const packageDir = path.resolve(import.meta.dirname, "..");
const nodeGyp = createRequire(import.meta.url).resolve("node-gyp/bin/node-gyp.js");
const prefix = path.resolve(path.dirname(realpathSync(process.execPath)), "..");
const hasHeaders = existsSync(path.join(prefix, "include/node/node_api.h"));

const options = ["-C", path.join(packageDir, "native"), "--jobs", "max", ...process.argv.slice(2)];
if (hasHeaders) options.push(`--nodedir=${prefix}`);
// Not "rebuild": that would take the addon away first from everybody who runs it.
const args = ["configure", "build", ...options];
const { status, error } = spawnSync(process.execPath, [nodeGyp, ...args], { stdio: "inherit" });
if (error) throw error;
if (status !== 0)
  console.error("skim: the native addon was not built; it needs: apt-get install -y g++ make python3 libisal-dev libzstd-dev");
process.exit(status ?? 1);
