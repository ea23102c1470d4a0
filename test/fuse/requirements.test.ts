import { mkdir, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { SkimError } from "../../src/base/errors.js";
import { silentLogger } from "../../src/base/logger.js";
import { openEngine } from "../../src/fuse/engine.js";
import { fuseEngineNames } from "../../src/fuse/engine-names.js";
import { loadFuseNative } from "../../src/fuse/fuse-native-binding.js";
import type { ServedImage } from "../../src/fuse/fuse-session.js";
import { checkFuseDevice } from "../../src/fuse/mountpoint.js";
import { makeTempDir } from "../support/temp-dir.js";

const thrown = (work: () => unknown): SkimError => {
  try {
    work();
  } catch (error) {
    if (error instanceof SkimError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
};

/** A directory with a package fuse-native whose node-gyp-build fails like this, and a require that looks in it. */
async function packageThatFails(message: string): Promise<NodeJS.Require> {
  const dir = await makeTempDir("package");
  const fuseNative = path.join(dir, "node_modules/fuse-native");
  await mkdir(path.join(fuseNative, "node_modules/node-gyp-build"), { recursive: true });
  await writeFile(path.join(fuseNative, "package.json"), '{"name": "fuse-native", "version": "2.2.6"}');
  await writeFile(
    path.join(fuseNative, "node_modules/node-gyp-build/index.js"),
    `module.exports = () => { throw new Error(${JSON.stringify(message)}) }`,
  );
  return createRequire(path.join(dir, "index.js"));
}

describe("the fuse-native package", () => {
  it("that is not installed is named, with the command that installs it", async () => {
    const elsewhere = createRequire(path.join(await makeTempDir("nothing"), "index.js"));
    const error = thrown(() => loadFuseNative(elsewhere));
    expect(error.code).toBe("ENVIRONMENT");
    expect(error.message).toContain("npm install");
  });

  it("that lacks libfuse names the Debian package, in the words of the dynamic loader", async () => {
    const broken = await packageThatFails(
      "libfuse.so.2: cannot open shared object file: No such file or directory",
    );
    const error = thrown(() => loadFuseNative(broken));
    expect(error.code).toBe("ENVIRONMENT");
    expect(error.message).toContain("apt-get install libfuse2");
  });

  it("that has no build for this machine says how to make one", async () => {
    const broken = await packageThatFails("No native build was found for platform=linux arch=riscv64");
    const error = thrown(() => loadFuseNative(broken));
    expect(error.code).toBe("ENVIRONMENT");
    expect(error.message).toContain("npm rebuild fuse-native");
    expect(error.cause).toBeInstanceOf(Error);
  });

  it("has every function that its declaration here names", () => {
    const binding = loadFuseNative() as unknown as Record<string, unknown>;
    for (const name of [
      "init",
      "getattr",
      "readlink",
      "readdir",
      "read",
      "statfs",
      "getxattr",
      "listxattr",
    ]) {
      expect(binding[`op_${name}`]).toBeTypeOf("number");
      expect(binding[`fuse_native_signal_${name}`]).toBeTypeOf("function");
    }
    expect(binding.fuse_native_mount).toBeTypeOf("function");
    expect(binding.fuse_native_unmount).toBeTypeOf("function");
    expect(binding.sizeof_fuse_thread_t).toBeGreaterThan(2048);
  });
});

describe("/dev/fuse", () => {
  it("that is missing is named, with the command that loads the module", async () => {
    const missing = path.join(await makeTempDir("dev"), "fuse");
    await expect(checkFuseDevice(missing)).rejects.toMatchObject({
      code: "ENVIRONMENT",
      message: expect.stringMatching(/no such device.*modprobe fuse/),
    });
  });

  it("that cannot be opened is named with the reason", async () => {
    const loop = path.join(await makeTempDir("dev"), "fuse");
    await symlink("fuse", loop);
    await expect(checkFuseDevice(loop)).rejects.toMatchObject({
      code: "ENVIRONMENT",
      message: expect.stringContaining("ELOOP"),
    });
  });
});

describe("engines", () => {
  it("are chosen by name; native is the one where none is named", () => {
    expect(fuseEngineNames[0]).toBe("native");
    for (const name of fuseEngineNames) expect(openEngine(name).name).toBe(name);
  });

  it("do not start when the signal has fired already", async () => {
    for (const name of fuseEngineNames) {
      const mounting = openEngine(name).mount({} as ServedImage, {
        mountpoint: "/nowhere",
        allowOther: true,
        fsName: "never",
        logger: silentLogger,
        signal: AbortSignal.abort(),
      });
      await expect(mounting).rejects.toMatchObject({ code: "CANCELLED" });
    }
  });
});
