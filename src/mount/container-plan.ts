/** What a container of an image will be: which directories its rootfs needs, and its config.json once the rootfs is there. */
import type { ImageAccounts } from "../archive/accounts.js";
import type { Archive } from "../archive/archive.js";
import { invariant, SkimError } from "../base/errors.js";
import { readHostFacts } from "../runtime/host-facts.js";
import {
  buildRuntimeSpec,
  containerDirectories,
  nameFilesOf,
  type RuntimeSpecOptions,
} from "../runtime/oci-spec.js";
import { readOnlyInDepth } from "../runtime/read-only-binds.js";
import type { RuntimeName } from "../runtime/runtime-command.js";
import type { RuntimeSpec } from "../runtime/runtime-spec.js";
import { readImageFile } from "./image-file.js";
import type { RootfsPlan } from "./rootfs.js";

/** What the caller wants other than the image config says; see buildRuntimeSpec. */
export type ContainerOptions = Omit<
  RuntimeSpecOptions,
  "config" | "rootfs" | "accounts" | "host" | "nameFiles"
> & {
  readonly runtime?: RuntimeName;
};

export interface ContainerPlan extends RootfsPlan {
  /** config.json for a rootfs at `rootfs` in a bundle in the directory `bundle`, and the files to be beside it. */
  spec(rootfs: string, bundle: string): RuntimeSpec;
  readonly files: Readonly<Record<string, string>>;
}

/** gVisor's own threads count, and with few of them its sandbox hangs or dies: 30 are too few for a shell, with 2022-12. */
const sandboxPidsMin = 128;
/** So does its own memory: with 12 MiB the kernel kills the sandbox of 2022-12 before it runs anything, and the runtime only sees it gone. */
const sandboxMemoryBytesMin = 16 * 2 ** 20;

function refuseTightSandbox({ runtime, limits }: ContainerOptions): void {
  const { pids = Number.POSITIVE_INFINITY, memoryBytes = Number.POSITIVE_INFINITY } = limits ?? {};
  if (runtime !== "runsc") return;
  if (pids < sandboxPidsMin)
    throw new SkimError(
      "USAGE",
      `a limit of ${pids} processes is too low for runsc, whose own threads count; give at least ${sandboxPidsMin} (--pids-limit)`,
    );
  if (memoryBytes < sandboxMemoryBytesMin)
    throw new SkimError(
      "USAGE",
      `a memory limit of ${memoryBytes} bytes is too low for runsc, whose own memory counts; give at least 16MiB (--memory)`,
    );
}

/**
 * Plans a container. Throws USAGE for limits that the runtime cannot live with; `prepare` throws what can be known to be wrong with it (no command, no such user), before anything is stacked.
 */
export function planContainer(options: ContainerOptions): ContainerPlan {
  refuseTightSandbox(options);
  let build: ((rootfs: string, nameFiles: string) => RuntimeSpec) | undefined;
  let files: Readonly<Record<string, string>> = {};
  return {
    directories: ({ config }) => containerDirectories(config, options.workdir),
    async prepare({ archive, lower }) {
      const [accounts, host, mounts] = await Promise.all([
        readAccounts(archive, lower),
        readHostFacts(),
        readOnlyInDepth(options.mounts ?? [], options.runtime),
      ]);
      const { config } = archive;
      build = (rootfs, nameFiles) =>
        buildRuntimeSpec({ ...options, mounts, config, rootfs, accounts, host, nameFiles });
      build("/", "/");
      files = nameFilesOf({ ...options, host });
    },
    spec(rootfs, bundle) {
      invariant(build, "a container is prepared before its config is written");
      return build(rootfs, bundle);
    },
    get files() {
      return files;
    },
  };
}

/** From the archive, or where that does not say from the mounted image: side by side, for each may be a fetch. */
export async function readAccounts(archive: Archive, lower: string): Promise<ImageAccounts> {
  if (archive.accounts) return archive.accounts;
  const [passwd, group] = await Promise.all([
    readImageFile(archive, lower, "/etc/passwd"),
    readImageFile(archive, lower, "/etc/group"),
  ]);
  return { passwd, group };
}
