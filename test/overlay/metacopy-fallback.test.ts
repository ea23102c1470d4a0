import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { mountOverlay, type OverlayBinding, type OverlayMount } from "../../src/overlay/overlay-mount.js";
import { unmountOverlay } from "../../src/overlay/overlay-unmount.js";
import { imageOf, makeMountDir, mountsBelow, native } from "./plain-lower.js";

let dir: string;
let upper: string;

/** This kernel, as one that does not know the option answers, and as one that turns it off. */
const older: Record<string, OverlayBinding["mount"]> = {
  "refuses metacopy=on": (source, target, type, flags, data) =>
    data.includes("metacopy=on")
      ? Promise.reject(Object.assign(new Error("EINVAL"), { code: "EINVAL", syscall: "mount" }))
      : native.mount(source, target, type, flags, data),
  "turns metacopy off": (source, target, type, flags, data) =>
    native.mount(source, target, type, flags, data.replace("metacopy=on", "metacopy=off")),
};

const kernels = Object.keys(older);

beforeEach(async () => {
  dir = await makeMountDir("metacopy");
  upper = path.join(dir, "upper");
  mkdirSync(path.join(dir, "lower"));
  writeFileSync(path.join(dir, "lower/file"), "from the image");
});

function mount(kernel?: string, manifestDigest?: string): Promise<OverlayMount> {
  const lower = path.join(dir, "lower");
  // What is not replaced is called on the binding itself.
  const binding: OverlayBinding = kernel
    ? Object.assign(Object.create(native), { mount: older[kernel] })
    : native;
  const rootDir = path.join(dir, "root");
  const digest = manifestDigest === undefined ? {} : { manifestDigest };
  return mountOverlay({ lower, image: imageOf(lower), rootDir, upper, native: binding, ...digest });
}

const optionsOf = (record: OverlayMount) => record.options?.map(({ option }) => option);

describe.each(kernels)("on a kernel that %s, an overlay", (kernel) => {
  test("is mounted without, and its record says so", async () => {
    const record = await mount(kernel);
    expect(optionsOf(record)).toContain("metacopy=off");
    expect(optionsOf(record)).not.toContain("metacopy=on");
    chmodSync(path.join(record.merged, "file"), 0o600);
    // The whole file came up: this upper can be read by itself.
    expect(readFileSync(path.join(upper, "file"), "utf8")).toBe("from the image");
    await unmountOverlay(record, { native });
    const later = await mount();
    expect(optionsOf(later)).toContain("metacopy=on");
    await unmountOverlay(later, { native });
  });

  test("with an upper that was written with metacopy is refused, naming the option, and nothing stays", async () => {
    const first = await mount();
    chmodSync(path.join(first.merged, "file"), 0o600);
    await unmountOverlay(first, { native });
    const mark = () => native.getXattr(Buffer.from(upper), Buffer.from("trusted.overlay.skim"));
    const before = mark();
    await expect(mount(kernel)).rejects.toMatchObject({
      code: "MOUNT_FAILED",
      message: expect.stringMatching(/was written with metacopy=on, and here .*metacopy=off/),
    });
    expect(mountsBelow(dir)).toEqual([]);
    expect(mark()).toEqual(before);
    const second = await mount();
    expect(readFileSync(path.join(second.merged, "file"), "utf8")).toBe("from the image");
    await unmountOverlay(second, { native });
  });
});

test("a mount whose image is not known leaves the upper with the image that it had", async () => {
  const first = await mount(undefined, "sha256:aa");
  writeFileSync(path.join(first.merged, "new"), "");
  await unmountOverlay(first, { native });
  await unmountOverlay(await mount(), { native });
  await expect(mount(undefined, "sha256:bb")).rejects.toThrow(/sha256:aa and does not fit sha256:bb/);
  await unmountOverlay(await mount(undefined, "sha256:aa"), { native });
});
