/**
 * Whether the kernel runs programs of 32 bits. Nothing that it shows says so: it may be built for them and have been told not to (`ia32_emulation=0`), be the guest of a hypervisor that
 * cannot, or sit on a processor of arm64 without AArch32. So it is asked to run one, of a hundred bytes.
 */
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";

/** Processors of 32 bits that kernels of another one run programs for; the keys are architectures as the OCI spec names them. */
export const compatPrograms = {
  /** eax = 1 (exit), ebx = 32, int 0x80. */
  "386": { machine: 3, flags: 0, code: "b801000000bb20000000cd80" },
  /** r0 = 32, r7 = 1 (exit), svc 0. EABI version 5, or the kernel does not take it. */
  arm: { machine: 40, flags: 0x0500_0000, code: "2000a0e30170a0e3000000ef" },
} as const;

export type CompatArchitecture = keyof typeof compatPrograms;

/** Of the programs: nothing else that may come of starting them ends with it. */
const exitCode = 32;
const headerBytes = 52;
const segmentBytes = 32;
/** For pages of up to 64 KiB. */
const address = 0x1_0000;

/** An ELF executable with one segment, which ends with `exitCode` at once. */
export function compatProgram(architecture: CompatArchitecture): Buffer {
  const { machine, flags, code } = compatPrograms[architecture];
  const instructions = Buffer.from(code, "hex");
  const head = Buffer.alloc(headerBytes + segmentBytes);
  // What the kernel does not run, execvp(3) hands to a shell, which ends at the second line. The kernel does not look at these eight bytes.
  head.write("\x7fELF\x01\x01\x01\x00\nexit 1\n", "latin1");
  head.writeUInt16LE(2, 16);
  head.writeUInt16LE(machine, 18);
  head.writeUInt32LE(1, 20);
  head.writeUInt32LE(address + head.length, 24);
  head.writeUInt32LE(headerBytes, 28);
  head.writeUInt32LE(flags, 36);
  head.writeUInt16LE(headerBytes, 40);
  head.writeUInt16LE(segmentBytes, 42);
  head.writeUInt16LE(1, 44);
  const total = head.length + instructions.length;
  const [load, readAndExecute] = [1, 5];
  const segment = [load, 0, address, address, total, total, readAndExecute, address];
  for (const [field, value] of segment.entries()) head.writeUInt32LE(value, headerBytes + 4 * field);
  return Buffer.concat([head, instructions]);
}

/** True also where nothing can be run to find out, as in a temporary directory that is mounted noexec or read-only: most kernels do. Never throws. */
export async function kernelRuns(architecture: CompatArchitecture): Promise<boolean> {
  let directory: string | undefined;
  try {
    directory = await mkdtemp(path.join(os.tmpdir(), "skim-compat-"));
    const program = path.join(directory, architecture);
    await writeFile(program, compatProgram(architecture), { mode: 0o700 });
    return await new Promise((resolve) => {
      const child = spawn(program, { stdio: "ignore" });
      child.once("error", (error: NodeJS.ErrnoException) => resolve(error.code !== "ENOEXEC"));
      child.once("exit", (code) => resolve(code === exitCode));
    });
  } catch {
    return true;
  } finally {
    if (directory !== undefined) await rm(directory, { recursive: true, force: true }).catch(() => {});
  }
}
