// Mounts, holds /dev/fuse, and starts servers on it: what outlives a server that is killed. It never looks into the mount.
//
// Usage: node fuse-holder.mjs JSON, with the options of fuse-server.mjs. Lines on standard input: `replace` kills the server with SIGKILL and starts
// another one, `end` closes the descriptor. Answers each with a line of JSON, after `ready` when the first server serves.
import { spawn } from "node:child_process";
import { closeSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const options = JSON.parse(process.argv[2]);
const load = (name) => import(pathToFileURL(`${options.dist}/${name}.js`).href);
const { connectFuse } = await load("fuse/fuse-connection");
const { loadNative } = await load("native/load");

const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const script = path.resolve(import.meta.dirname, "fuse-server.mjs");

const { mountpoint, allowOther = true, fsName = "held image" } = options;
const { descriptor } = await connectFuse({ mountpoint, allowOther, fsName }, loadNative());
let initResult;
let server;

/** Resolves when a new server serves. */
async function start() {
  const adopt = { descriptor: 3, ...(initResult ? { initResult } : {}) };
  const child = spawn(process.execPath, [script, JSON.stringify({ ...options, adopt })], {
    stdio: ["pipe", "pipe", "inherit", descriptor],
  });
  server = child;
  initResult = await new Promise((resolve, reject) => {
    // Listens for good: a pipe that nobody empties would stop the server, and one that is closed would end it.
    createInterface({ input: child.stdout }).on("line", (line) => {
      const event = JSON.parse(line);
      if (event.event === "ready") resolve(event.initResult);
      if (event.event === "failed") reject(new Error(event.message));
    });
    child.once("exit", () => reject(new Error("the server has ended")));
  });
}

async function kill() {
  // One whose mount has gone has ended by itself.
  if (server.exitCode !== null || server.signalCode !== null) return;
  const ended = new Promise((resolve) => server.once("exit", resolve));
  server.kill("SIGKILL");
  await ended;
}

await start();
tell({ event: "ready" });
for await (const command of createInterface({ input: process.stdin })) {
  if (command === "replace") {
    await kill();
    await start();
    tell({ event: "replaced", pid: server.pid });
  } else if (command === "end") {
    await kill();
    closeSync(descriptor);
    break;
  }
}
process.exit(0);
