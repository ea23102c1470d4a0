/** One more process in a container of `skim run`, from any process. */
import { resolveSettings, type SettingsInput } from "../base/settings.js";
import type { Accounts } from "../runtime/accounts.js";
import { execInContainer } from "../runtime/container-exec.js";
import { buildExecProcess, type ExecProcessOptions } from "../runtime/exec-process.js";
import type { ContainerExit, ContainerStreams } from "../runtime/runtime-process.js";
import { fileBytesMax } from "./image-file.js";
import { findContainer } from "./running-container.js";

export interface ExecContainerOptions extends Omit<ExecProcessOptions, "first" | "accounts"> {
  readonly id: string;
  /** Default: those of this process, untouched. */
  readonly stdio?: "inherit" | ContainerStreams;
  /** Ends the process with SIGKILL. */
  readonly signal?: AbortSignal;
  readonly settings?: SettingsInput;
  /** Called when signals that this process gets are the container's process's from now on. */
  readonly onStart?: () => void;
}

/**
 * Resolves when the process has ended; signals that this one gets meanwhile are handed to it. Throws NOT_FOUND where there is no such container,
 * USAGE, RUNTIME_FAILED, CANCELLED.
 */
export async function execContainer(options: ExecContainerOptions): Promise<ContainerExit> {
  const settings = resolveSettings(options.settings);
  const found = await findContainer(settings.runDir, options.id);
  const accounts = options.user === undefined ? {} : await containerAccounts(options);
  const process = buildExecProcess({ ...options, first: found.spec.process, accounts });
  options.onStart?.();
  return await execInContainer({
    ...found.container,
    directory: found.bundle,
    process,
    stdio: options.stdio ?? "inherit",
    ...(options.signal ? { signal: options.signal } : {}),
  });
}

/** As the container has them now: users may have been added since it started, and its mounts may bring others than the image has. */
async function containerAccounts({ id, settings, signal }: ExecContainerOptions): Promise<Accounts> {
  // Loaded here: most need none of it.
  const { readTextFiles } = await import("./container-files.js");
  const [passwd, group] = await readTextFiles({
    ...{ id, paths: ["/etc/passwd", "/etc/group"], bytesMax: fileBytesMax },
    ...(settings ? { settings } : {}),
    ...(signal ? { signal } : {}),
  });
  return { passwd, group };
}
