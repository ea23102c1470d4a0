import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { writeTestImage } from "../support/oci-layout.js";
import type { SkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

/** Every runtime with every place that it can keep written files in. */
export const modes = [
  ["runc", ["--runtime", "runc"]],
  ["crun", ["--runtime", "crun"]],
  ["runsc with the host's overlay", ["--runtime", "runsc", "--runsc-overlay", "host"]],
  ["runsc with its own overlay", ["--runtime", "runsc", "--runsc-overlay", "own"]],
] as const;

/** An image of Debian's static busybox whose user is 1234:1235; returns its archive. */
export async function busyboxArchive(host: SkimHost, config: Record<string, unknown> = {}): Promise<string> {
  const dir = await makeTempDir("image");
  const applets = [
    "sh",
    "cat",
    "echo",
    "sleep",
    "stat",
    "ls",
    "mv",
    "ln",
    "rm",
    "mkdir",
    "mkfifo",
    "chmod",
    "grep",
    "wc",
    "find",
  ];
  const tar = buildTar([
    { path: "bin/", type: "directory" },
    { path: "bin/busybox", content: await readFile("/bin/busybox"), mode: 0o755 },
    ...applets.map((name) => ({ path: `bin/${name}`, type: "hardlink" as const, link: "bin/busybox" })),
    { path: "tmp/", type: "directory", mode: 0o1777 },
    { path: "work/", type: "directory", mode: 0o777 },
    { path: "etc/", type: "directory" },
    { path: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/home/app:/bin/sh\n" },
  ]);
  const layout = path.join(dir, "image");
  await writeTestImage(layout, [{ tar }], { config: { Env: ["PATH=/bin"], User: "app", ...config } });
  const archive = path.join(dir, "image.skim");
  await host.ok(["index", `oci:${layout}`, "-o", archive]);
  return archive;
}

export interface TestContainer {
  readonly host: SkimHost;
  readonly id: string;
  readonly settings: { cacheDir: string; runDir: string };
  /** Standard output of a script in the container, run as root; throws where it fails. */
  sh(script: string): Promise<string>;
  end(): Promise<void>;
}

/** gVisor's sockets have the id alone for a name, whatever the run directory is: one that no other process of tests has. */
export function uniqueId(): string {
  return `box-${process.pid}-${count++}`;
}

let count = 0;

/** A container that waits, of `skim run` with `options`. */
export async function startContainerOf(
  host: SkimHost,
  archive: string,
  options: readonly string[],
): Promise<TestContainer> {
  const id = uniqueId();
  const child: ChildProcess = host.start([
    "run",
    "--id",
    id,
    ...options,
    archive,
    "--",
    "sh",
    "-c",
    "echo ready; exec sleep 100000",
  ]);
  const said: Buffer[] = [];
  child.stderr!.on("data", (piece: Buffer) => said.push(piece));
  const ended = once(child, "close");
  const ready = await Promise.race([once(child.stdout!, "data"), ended]);
  if (typeof ready[0] === "number") throw new Error(`the container did not start: ${Buffer.concat(said)}`);
  return {
    host,
    id,
    settings: { cacheDir: host.cacheDir, runDir: host.runDir },
    sh: (script) => host.ok(["exec", "--user", "0", id, "--", "sh", "-c", script]),
    async end() {
      await host.ok(["rootfs", "umount", id, "--force"]).catch(() => {});
      await ended;
    },
  };
}
