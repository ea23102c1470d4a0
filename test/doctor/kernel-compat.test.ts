import { execFile } from "node:child_process";
import { readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import {
  type CompatArchitecture,
  compatProgram,
  compatPrograms,
  kernelRuns,
} from "../../src/doctor/kernel-compat.js";
import { isElf, readElf } from "../../src/program/elf.js";
import { makeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);
const architectures = Object.keys(compatPrograms) as CompatArchitecture[];

describe("programs of 32 bits", () => {
  let temporary: string;

  beforeEach(async () => {
    temporary = await makeTempDir("kernel-compat");
    vi.stubEnv("TMPDIR", temporary);
  });
  afterEach(() => vi.unstubAllEnvs());

  it.each(architectures)(
    "%s: a static program of that processor is what the kernel is given",
    async (name) => {
      const program = compatProgram(name);
      const read = await readElf(
        async (offset, length) => program.subarray(offset, offset + length),
        program.length,
      );
      expect(isElf(read) && read).toMatchObject({
        machine: compatPrograms[name].machine,
        bits: 32,
        littleEndian: true,
        interpreter: undefined,
      });
    },
  );

  it("the kernel runs ours where it runs those that a compiler makes", async () => {
    const source = path.join(temporary, "exit.c");
    await writeFile(source, "void _start(void) { for (;;) __builtin_trap(); }");
    const compiled = path.join(temporary, "compiled");
    await exec("gcc", ["-m32", "-static", "-nostdlib", "-fno-pic", "-no-pie", "-o", compiled, source]);
    // Killed by the trap where it runs; what does not is given to a shell.
    const { signal } = (await exec(compiled).catch((error: { signal: string | null }) => error)) as {
      signal: string | null;
    };
    expect(await kernelRuns("386")).toBe(signal !== null);
  });

  it("what it cannot run is not taken for run, and nothing is left", async () => {
    const emulators = await readdir("/proc/sys/fs/binfmt_misc").catch((): string[] => []);
    expect(await kernelRuns("arm")).toBe(emulators.includes("qemu-arm") || process.arch === "arm64");
    expect(await readdir(temporary)).toEqual([]);
  });

  it.each(["noexec", "ro", "nr_blocks=1,nr_inodes=1"])(
    "where nothing can be run, as on a tmpfs with %s, it is thought to run them",
    async (options) => {
      await exec("mount", ["-t", "tmpfs", "-o", options, "skim-compat", temporary]);
      onTestFinished(async () => {
        await exec("umount", [temporary]);
      });
      expect(await kernelRuns("arm")).toBe(true);
    },
  );

  it("so it is where there is no temporary directory", async () => {
    vi.stubEnv("TMPDIR", path.join(temporary, "nowhere"));
    expect(await kernelRuns("arm")).toBe(true);
  });
});
