/** What of the host decides whether an image's programs run: its processor, and emulators that the kernel has been told of. */
import { readdir, readFile } from "node:fs/promises";
import { hostPlatform, type Platform } from "../image/platform.js";
import type { ElfObject } from "../program/elf.js";
import { type CompatArchitecture, kernelRuns } from "./kernel-compat.js";

export interface ExaminedHost {
  readonly platform: Platform;
  /** Other architectures, as the OCI spec names them, whose programs its kernel runs by itself. */
  readonly compat: readonly string[];
  /** Architectures, as the OCI spec names them, that an emulator of binfmt_misc runs. */
  readonly emulated: readonly string[];
  /** Files of the host that containers are given: /etc/resolv.conf and /etc/hosts. */
  readonly nameFiles: readonly string[];
}

/** e_machine, class and byte order by architecture; elf.h has the numbers. */
const machines: Readonly<Record<string, Pick<ElfObject, "machine" | "bits" | "littleEndian">>> = {
  amd64: { machine: 62, bits: 64, littleEndian: true },
  "386": { machine: 3, bits: 32, littleEndian: true },
  arm64: { machine: 183, bits: 64, littleEndian: true },
  arm: { machine: 40, bits: 32, littleEndian: true },
  ppc64le: { machine: 21, bits: 64, littleEndian: true },
  ppc64: { machine: 21, bits: 64, littleEndian: false },
  s390x: { machine: 22, bits: 64, littleEndian: false },
  riscv64: { machine: 243, bits: 64, littleEndian: true },
  loong64: { machine: 258, bits: 64, littleEndian: true },
};

/** Processors that can run another one's programs, where the kernel has them do it. */
const compatOf: Readonly<Record<string, CompatArchitecture>> = { amd64: "386", arm64: "arm" };

/** How qemu-user calls them. */
const emulatorNames: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  i386: "386",
  aarch64: "arm64",
  arm: "arm",
  ppc64le: "ppc64le",
  s390x: "s390x",
  riscv64: "riscv64",
  loongarch64: "loong64",
};

/** `amd64`, or `machine 8 (32 bits)` for what nobody makes images of. */
export function architectureOf({ machine, bits, littleEndian }: ElfObject): string {
  const found = Object.entries(machines).find(
    ([, one]) => one.machine === machine && one.bits === bits && one.littleEndian === littleEndian,
  );
  return found?.[0] ?? `machine ${machine} (${bits} bits)`;
}

/** How programs for `architecture` run on the host: not at all where undefined. The kernel asks emulators first. */
export function runsOn(host: ExaminedHost, architecture: string): "natively" | "emulated" | undefined {
  if (host.emulated.includes(architecture)) return "emulated";
  const isNative = architecture === host.platform.architecture || host.compat.includes(architecture);
  return isNative ? "natively" : undefined;
}

const binfmtDirectory = "/proc/sys/fs/binfmt_misc";

export async function readExaminedHost(nameFiles: readonly string[]): Promise<ExaminedHost> {
  const platform = hostPlatform();
  const other = compatOf[platform.architecture];
  const [emulated, runsOther] = await Promise.all([enabledEmulators(), other && kernelRuns(other)]);
  return { platform, compat: other && runsOther ? [other] : [], emulated, nameFiles };
}

/** None where the kernel has no binfmt_misc, or it is not mounted. */
async function enabledEmulators(): Promise<string[]> {
  const names = await readdir(binfmtDirectory).catch(() => []);
  const emulated: string[] = [];
  for (const name of names) {
    const architecture = emulatorNames[/^qemu-(.+)$/.exec(name)?.[1] ?? ""];
    if (!architecture) continue;
    const text = await readFile(`${binfmtDirectory}/${name}`, "utf8").catch(() => "");
    if (text.startsWith("enabled")) emulated.push(architecture);
  }
  return emulated;
}
