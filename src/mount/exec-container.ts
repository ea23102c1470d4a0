/** One more process in a container of `skim run`, from any process. */
import { openArchive } from "../archive/archive-reader.js";
import { resolveSettings, type SettingsInput } from "../base/settings.js";
import { execInContainer } from "../runtime/container-exec.js";
import { buildExecProcess, type ExecProcessOptions } from "../runtime/exec-process.js";
import type { ContainerExit, ContainerStreams } from "../runtime/runtime-process.js";
import { readAccounts } from "./container-plan.js";
import { type FoundContainer, findContainer } from "./running-container.js";

export interface ExecContainerOptions extends Omit<ExecProcessOptions, "first" | "accounts"> {
  readonly id: string;
  /** Default: those of this process, untouched. */
  readonly stdio?: "inherit" | ContainerStreams;
  /** Ends the process with SIGKILL. */
  readonly signal?: AbortSignal;
  readonly settings?: SettingsInput;
}

/**
 * Resolves when the process has ended; signals that this one gets meanwhile are handed to it. Throws NOT_FOUND where there is no such container,
 * USAGE, RUNTIME_FAILED, CANCELLED.
 */
export async function execContainer(options: ExecContainerOptions): Promise<ContainerExit> {
  const settings = resolveSettings(options.settings);
  const found = await findContainer(settings.runDir, options.id);
  const accounts = options.user === undefined ? noAccounts : await imageAccounts(found);
  return await execInContainer({
    ...found.container,
    directory: found.bundle,
    process: buildExecProcess({ ...options, first: found.spec.process, accounts }),
    stdio: options.stdio ?? "inherit",
    ...(options.signal ? { signal: options.signal } : {}),
  });
}

const noAccounts = { passwd: undefined, group: undefined };

async function imageAccounts({ record }: FoundContainer) {
  const archive = await openArchive(record.archive);
  try {
    return await readAccounts(archive, record.lower);
  } finally {
    await archive.close();
  }
}
