/** From where files of a container are seen as its processes see them. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { openArchive } from "../archive/archive-reader.js";
import { SkimError } from "../base/errors.js";
import { identifyProcess, type ProcessIdentity } from "../base/process-identity.js";
import {
  type FilesTransport,
  startBelow,
  startInNamespace,
  startInSandbox,
} from "../copy/files-transport.js";
import { resolveUser } from "../runtime/accounts.js";
import { type ContainerIdentity, containerState } from "../runtime/container-lifecycle.js";
import type { RuntimeSpec } from "../runtime/runtime-spec.js";
import { readAccounts } from "./container-plan.js";
import { type MountRecord, MountRecords } from "./mount-record.js";
import { findContainer } from "./running-container.js";

export interface ContainerView {
  /** Starts skim-files there. `token` names unfinished files. */
  start(token: string): FilesTransport;
  /** The user as whom `exec` starts processes. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Absolute paths at which the container has, or will have, what cannot be seen from there. */
  readonly hidden: readonly string[];
  /** Absolute paths at which the container has something of this host, and what. */
  readonly mounts: ReadonlyMap<string, string>;
}

/** What every runtime mounts, whatever the config says. */
const mountsOfAnyContainer = ["/proc", "/sys", "/dev"];

/** Throws NOT_FOUND where there is nothing of that id or its container has ended, USAGE for a plain mount, RUNTIME_FAILED for a paused sandbox. */
export async function findView(runDir: string, id: string): Promise<ContainerView> {
  const record = await new MountRecords(runDir).find(id);
  if (!record) throw new SkimError("NOT_FOUND", `no container with id ${id}; skim ps lists what is mounted`);
  if (record.kind === "mount")
    throw new SkimError("USAGE", `${id} is a read-only mount, in ${record.lower}; it has no container`);
  return record.kind === "run" ? await liveView(runDir, id) : await mergedView(record);
}

async function liveView(runDir: string, id: string): Promise<ContainerView> {
  const { container, bundle, spec } = await findContainer(runDir, id);
  const first = spec.process;
  const { uid, gid } = first.user;
  const mounts = new Map(
    spec.mounts.map(({ destination, source }) => [path.posix.resolve(destination), source]),
  );
  const common = { owner: { uid, gid }, hidden: [], mounts };
  if (container.runtime === "runsc") {
    const status = (await containerState(container))?.status;
    if (status === "paused")
      throw new SkimError(
        "RUNTIME_FAILED",
        `container ${id} is paused: its files are reached when it goes on`,
      );
    if (status !== "running") throw ended(id);
    return { ...common, start: (token) => startInSandbox(container, first, bundle, token) };
  }
  const pinned = await pinFirstProcess(container);
  return { ...common, start: (token) => startInNamespace(pinned, token) };
}

/**
 * The first process, and the time at which it started. The runtime is asked before and after: the process of that pid and start was the
 * container's at a moment in between.
 */
async function pinFirstProcess(container: ContainerIdentity): Promise<ProcessIdentity> {
  const before = await containerState(container);
  const pinned = before && before.pid > 0 ? identifyProcess(before.pid) : undefined;
  const after = pinned && (await containerState(container));
  if (!pinned || after?.pid !== pinned.pid) throw ended(container.id);
  return pinned;
}

function ended(id: string): SkimError {
  return new SkimError("NOT_FOUND", `container ${id} does not run (any more): its files cannot be reached`);
}

/** Nothing of ours runs on it. Another runtime may: but its mounts are known. */
async function mergedView(record: MountRecord): Promise<ContainerView> {
  const { merged, bundle } = record;
  if (!merged) throw new SkimError("NOT_FOUND", `${record.id} has no merged view yet`);
  const spec = bundle ? await readBundleSpec(bundle) : undefined;
  const mounts = spec?.mounts.map(({ destination }) => destination) ?? [];
  return {
    owner: spec?.process.user ?? (await imageUser(record)),
    hidden: [...new Set([...mountsOfAnyContainer, ...mounts])],
    mounts: new Map(),
    start: (token) => startBelow(merged, token),
  };
}

/** Undefined where the bundle's owner has taken it away. */
async function readBundleSpec(bundle: string): Promise<RuntimeSpec | undefined> {
  const text = await readFile(path.join(bundle, "config.json"), "utf8").catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as RuntimeSpec);
}

async function imageUser(record: MountRecord): Promise<{ uid: number; gid: number }> {
  const archive = await openArchive(record.archive);
  try {
    return resolveUser(archive.config.user, await readAccounts(archive, record.lower), "image");
  } finally {
    await archive.close();
  }
}
