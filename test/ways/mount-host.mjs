// Serves mounts for mount-host.ts, several at a time and one after the other, as the server process of `skim mount` serves one: a
// process for each of some hundred mounts would take most of the time of the tests.
//
// Usage: node mount-host.mjs DIST. Speaks lines of JSON: {id, command, ...} on standard input, {id, error?} on standard output.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(`${process.argv[2]}/${name}.js`).href);
const { startMountServer } = await load("mount/mount-server");

const quiet = () => {};
const logger = {
  ...{ level: "info", trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet },
  child: () => logger,
};
const servers = new Map();

const commands = {
  async mount({ options }) {
    servers.set(options.mountpoint, await startMountServer(options, logger));
  },
  async unmount({ mountpoint }) {
    const server = servers.get(mountpoint);
    servers.delete(mountpoint);
    await server.shutdown();
    await server.ended;
  },
};

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, command, ...request } = JSON.parse(line);
  const answer = await commands[command](request).then(
    () => ({ id }),
    (error) => ({ id, error: { code: error.code, message: error.message } }),
  );
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
