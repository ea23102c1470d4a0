import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import path from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { resolveSettings } from "../../src/base/settings.js";
import { HostObserver } from "../../src/control/host-observer.js";
import { renderMetrics } from "../../src/control/metrics.js";
import { writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";
import { parseMetrics } from "./prometheus-text.js";

const exec = promisify(execFile);

test("a real mount: what is read shows, and stays when it is unmounted", async () => {
  const host = await makeSkimHost();
  const layout = await makeTempDir("observer");
  await writeTestImage(layout, [{ tar: buildTar([{ path: "file", content: randomBytes(300_000) }]) }]);
  const settings = resolveSettings({ cacheDir: host.cacheDir, runDir: host.runDir }, {}, "/dev/null");
  const observer = new HostObserver({ settings });
  const scrape = async () => {
    const metrics = parseMetrics(await renderMetrics(await observer.look()));
    return new Map([...metrics.values()].flatMap(({ samples }) => [...samples]));
  };
  const before = await scrape();
  expect(before.get('skim_mounts{state="serving"}')).toBe(0);

  const directory = await makeTempDir("observed");
  await host.ok(["mount", `oci:${layout}`, directory, "--id", "one", "--prefetch", "none"]);
  let mounted: Map<string, number>;
  try {
    await host.ok(["cache", "gc", "--to", "0"]);
    await exec("cat", [path.join(directory, "file")], { encoding: "buffer" });
    mounted = await scrape();
  } finally {
    await host.ok(["umount", directory]);
  }
  expect(mounted.get('skim_mounts{state="serving"}')).toBe(1);
  expect(mounted.get("skim_served_bytes_total{}")).toBe(300_000);
  expect(mounted.get('skim_read_spans_total{source="network"}')).toBeGreaterThan(0);
  expect(mounted.get('skim_span_wait_seconds_count{source="network"}')).toBe(
    mounted.get('skim_read_spans_total{source="network"}'),
  );
  expect(mounted.get('skim_fuse_requests_total{operation="read"}')).toBeGreaterThan(0);

  const after = await scrape();
  expect(after.get('skim_mounts{state="serving"}')).toBe(0);
  expect(after.get("skim_served_bytes_total{}")).toBe(300_000);
  expect(after.get("skim_mount_ready_seconds_count{}")).toBe(1);
  expect(after.get("skim_cache_bytes{}")).toBeGreaterThan(0);
});
