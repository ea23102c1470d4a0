import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { PassThrough, Readable } from "node:stream";
import { type ImageConfig, parseImageConfig } from "../../src/image/config.js";
import { writeBundle } from "../../src/runtime/bundle.js";
import { type RunContainerOptions, runContainer } from "../../src/runtime/container.js";
import { readHostFacts } from "../../src/runtime/host-facts.js";
import { buildRuntimeSpec, type RuntimeSpecOptions } from "../../src/runtime/oci-spec.js";
import { type RuntimeName, runtimeNames } from "../../src/runtime/runtime-command.js";
import type { ContainerExit } from "../../src/runtime/runtime-process.js";

export const passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1001:1002:App:/home/app:/bin/sh\n";
export const group = "root:x:0:\napp:x:1002:\naudio:x:29:other,app\nvideo:x:44:app\nstaff:x:50:other\n";

export function imageConfig(config: Record<string, unknown> = {}): ImageConfig {
  return parseImageConfig(
    Buffer.from(JSON.stringify({ os: "linux", architecture: "amd64", config })),
    "test",
  );
}

/** A root filesystem of Debian's busybox-static. */
export function makeBusyboxRoot(directory: string): string {
  const rootfs = path.join(directory, "rootfs");
  for (const name of ["bin", "etc", "proc", "sys", "dev", "tmp", "root"])
    mkdirSync(path.join(rootfs, name), { recursive: true });
  copyFileSync("/usr/bin/busybox", path.join(rootfs, "bin/busybox"));
  for (const tool of ["sh", "id", "cat", "sleep", "env", "pwd", "touch", "ls", "hostname", "grep"])
    symlinkSync("busybox", path.join(rootfs, "bin", tool));
  writeFileSync(path.join(rootfs, "etc/passwd"), passwd);
  writeFileSync(path.join(rootfs, "etc/group"), group);
  return rootfs;
}

export interface Ran extends ContainerExit {
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions extends Partial<Omit<RuntimeSpecOptions, "config">> {
  readonly config?: Record<string, unknown>;
  readonly container?: Partial<RunContainerOptions>;
  readonly stdin?: string;
  /** Called with each piece of standard output. */
  readonly onOutput?: (text: string) => void;
}

let count = 0;

/** Runs a command in the busybox root of `directory` and collects what it writes. */
export async function run(
  directory: string,
  runtime: RuntimeName,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Ran> {
  const { config, container, stdin, onOutput, ...specOptions } = options;
  const id = `skim-test-${process.pid}-${count++}`;
  const bundle = path.join(directory, "bundles", id);
  const spec = buildRuntimeSpec({
    config: imageConfig(config),
    rootfs: path.join(directory, "rootfs"),
    accounts: { passwd, group },
    host: await readHostFacts(),
    args,
    ...specOptions,
  });
  await writeBundle(bundle, spec);
  const output = { stdout: "", stderr: "" };
  const streams = { stdout: new PassThrough(), stderr: new PassThrough() };
  for (const name of ["stdout", "stderr"] as const)
    streams[name].on("data", (bytes) => {
      output[name] += bytes;
      if (name === "stdout") onOutput?.(String(bytes));
    });
  const exit = await runContainer({
    runtime,
    id,
    stateDir: path.join(directory, runtime),
    bundle,
    stdio: stdin === undefined ? streams : { ...streams, stdin: Readable.from([stdin]) },
    ...container,
  });
  return { ...exit, ...output };
}

/** What containers of this process have left: states, groups, logs. */
export function remains(directory: string): string[] {
  const found: string[] = [];
  for (const runtime of runtimeNames)
    if (existsSync(path.join(directory, runtime))) found.push(...readdirSync(path.join(directory, runtime)));
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    if (!/ - cgroup2? /.test(line)) continue;
    const hierarchy = line.split(" ")[4]!;
    for (const own of readFileSync("/proc/self/cgroup", "utf8").split("\n")) {
      const parent = path.join(hierarchy, own.split(":").slice(2).join(":"));
      for (const place of new Set([hierarchy, parent, path.dirname(parent)]))
        if (place.startsWith("/sys/fs/cgroup") && existsSync(place))
          found.push(...readdirSync(place).filter((name) => name.startsWith(`skim-test-${process.pid}-`)));
    }
  }
  for (const bundle of existsSync(path.join(directory, "bundles"))
    ? readdirSync(path.join(directory, "bundles"))
    : [])
    found.push(
      ...readdirSync(path.join(directory, "bundles", bundle)).filter((name) => name !== "config.json"),
    );
  return [...new Set(found)];
}
