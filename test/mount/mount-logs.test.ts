import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, openSync, readFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { createLogger } from "../../src/base/logger.js";
import { resolveSettings } from "../../src/base/settings.js";
import { startMountServer } from "../../src/mount/mount-server.js";
import { startEmbeddedRegistry } from "../../src/registry/embedded-registry.js";
import { FakeRegistry } from "../support/fake-registry.js";
import { writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);

test("of two mounts in one process each line names its own, down to the registry", async () => {
  const host = await makeSkimHost();
  const dir = await makeTempDir("logs");
  const logFile = path.join(dir, "log");
  const fd = openSync(logFile, "a");
  const logger = createLogger("debug", fd);
  const mirror = await FakeRegistry.start();
  const registries = new Map<string, string>();
  const closing: (() => Promise<unknown>)[] = [];
  try {
    for (const id of ["first", "second"]) {
      const layout = path.join(dir, id);
      await writeTestImage(layout, [{ tar: buildTar([{ path: "file", content: randomBytes(200_000) }]) }]);
      const registry = await startEmbeddedRegistry({ layout });
      closing.unshift(() => registry.close());
      registries.set(id, registry.host);
      const archive = path.join(dir, `${id}.skim`);
      await host.ok(["index", `${registry.host}/app`, "-o", archive]);
      const cacheDir = path.join(dir, `${id}-cache`);
      const mirrors = { [registry.host]: [mirror.url] };
      const mountpoint = await makeTempDir("logged");
      const server = await startMountServer(
        {
          ...{ id, archive, mountpoint, engine: "native", prefetch: "none" },
          settings: resolveSettings({ cacheDir, runDir: dir, mirrors }, {}, "/dev/null"),
        },
        logger,
      );
      closing.unshift(() => server.shutdown({ force: true }));
      await exec("cat", [path.join(mountpoint, "file")], { encoding: "buffer" });
    }
  } finally {
    for (const close of closing) await close();
    await mirror.close();
  }
  closeSync(fd);
  const lines = readFileSync(logFile, "utf8").trimEnd().split("\n");
  const seen = new Map<string, Set<string>>();
  for (const line of lines) {
    // A name that comes twice would be read as the last one.
    expect(line.match(/"mount":/g), line).toHaveLength(1);
    const { mount, msg, registry } = JSON.parse(line) as { mount: string; msg: string; registry?: unknown };
    expect([...registries.keys()]).toContain(mount);
    if (typeof registry === "string") expect([mount, registry]).toEqual([mount, registries.get(mount)]);
    seen.set(mount, (seen.get(mount) ?? new Set()).add(msg));
  }
  for (const id of registries.keys())
    for (const msg of [
      "mounted",
      "registry request",
      "mirror failed; asking the next one",
      "mount ended",
      "unmounted",
    ])
      expect([...seen.get(id)!], id).toContain(msg);
});
