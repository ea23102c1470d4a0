/** A container of `skim run`, found again by its id from another process. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { SkimError } from "../base/errors.js";
import type { ContainerIdentity } from "../runtime/container-lifecycle.js";
import type { RuntimeSpec } from "../runtime/runtime-spec.js";
import { type MountRecord, MountRecords } from "./mount-record.js";

export interface FoundContainer {
  readonly record: MountRecord;
  readonly container: ContainerIdentity;
  /** Directory with its config.json. */
  readonly bundle: string;
  readonly spec: RuntimeSpec;
}

/** Whether it runs is for its runtime to say. Throws NOT_FOUND for an id of no container of ours. */
export async function findContainer(runDir: string, id: string): Promise<FoundContainer> {
  const record = await new MountRecords(runDir).find(id);
  if (!record) throw new SkimError("NOT_FOUND", `no container with id ${id}; skim ps lists what is mounted`);
  const { container, bundle } = record;
  if (!container || !bundle) {
    if (record.kind === "run")
      throw new SkimError("NOT_FOUND", `container ${id} is not made yet: its image is being mounted`);
    throw new SkimError(
      "NOT_FOUND",
      `${id} is a ${record.kind} of skim's, and its container, if there is one, is another runtime's: use that one`,
    );
  }
  return { record, container, bundle, spec: await readSpec(bundle, id) };
}

async function readSpec(bundle: string, id: string): Promise<RuntimeSpec> {
  try {
    return JSON.parse(await readFile(path.join(bundle, "config.json"), "utf8")) as RuntimeSpec;
  } catch (cause) {
    throw new SkimError(
      "NOT_FOUND",
      `container ${id} is not made yet, or is gone: its config.json cannot be read`,
      {
        cause,
      },
    );
  }
}
