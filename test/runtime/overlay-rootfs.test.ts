import { existsSync, lstatSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import path from "node:path";
import { beforeEach, expect, test } from "vitest";
import { mountOverlay, type OverlayMount } from "../../src/overlay/overlay-mount.js";
import { unmountOverlay } from "../../src/overlay/overlay-unmount.js";
import { containerDirectories } from "../../src/runtime/oci-spec.js";
import { imageOf, makeMountDir, mountsBelow, native } from "../overlay/plain-lower.js";
import { imageConfig, makeBusyboxRoot, remains, run } from "./busybox-bundle.js";

let dir: string;
let lower: string;

beforeEach(async () => {
  dir = await makeMountDir("rootfs");
  lower = makeBusyboxRoot(dir);
  mkdirSync(path.join(lower, "tmp"), { recursive: true });
  // As images made by systemd's tools have it.
  symlinkSync("../run/resolve/stub.conf", path.join(lower, "etc/resolv.conf"));
});

const config = { WorkingDir: "/srv/work", Volumes: { "/data": {} } };

function mount(): Promise<OverlayMount> {
  const directories = containerDirectories(imageConfig(config));
  return mountOverlay({ lower, image: imageOf(lower), rootDir: path.join(dir, "root"), directories, native });
}

test("a container on an overlay has what was seeded, writes to the upper, and lets go of everything", async () => {
  const record = await mount();
  const script =
    "pwd; ls -d /data; cat /proc/1/comm; ls /etc/resolv.conf >/dev/null && cat /etc/resolv.conf >/dev/null && echo named; echo x > /data/file; ls -ld /tmp";
  const ran = await run(dir, "runc", ["sh", "-c", script], { rootfs: record.merged, config });
  expect(ran.exitCode).toBe(0);
  expect(ran.stdout.split("\n").slice(0, 4)).toEqual(["/srv/work", "/data", "sh", "named"]);
  expect(readFileSync(path.join(record.upper, "data/file"), "utf8")).toBe("x\n");
  expect(lstatSync(path.join(record.merged, "etc/resolv.conf")).isSymbolicLink()).toBe(true);
  expect(remains(dir)).toEqual([]);
  await unmountOverlay(record, { native });
  expect(mountsBelow(dir)).toEqual([]);
  expect(existsSync(path.join(lower, "srv"))).toBe(false);
});

test("a read-only container cannot write, but has its mount targets", async () => {
  const record = await mount();
  const ran = await run(dir, "runc", ["sh", "-c", "touch /data/x; echo $?; touch /dev/shm/y && echo shm"], {
    rootfs: record.merged,
    config,
    readonlyRootfs: true,
  });
  expect(ran).toMatchObject({ exitCode: 0, stdout: "1\nshm\n" });
  await unmountOverlay(record, { native });
});

test("an overlay is not taken down under a running container", async () => {
  const record = await mount();
  let refused: unknown;
  const ran = await run(
    dir,
    "runc",
    ["sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"],
    {
      rootfs: record.merged,
      config,
      onOutput: async () => {
        refused = await unmountOverlay(record, { native }).catch((error) => error);
        process.kill(process.pid, "SIGTERM");
      },
    },
  );
  expect(ran.exitCode).toBe(0);
  expect(refused).toMatchObject({
    code: "IN_USE",
    message: expect.stringMatching(/process \d+ \((sh|sleep|busybox)\) has it mounted on \//),
  });
  await unmountOverlay(record, { native });
  expect(existsSync(path.join(dir, "root"))).toBe(false);
});
