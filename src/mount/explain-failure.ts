/** Why a start failed: examines the image as it was started, and finds the check that explains what was seen. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { pickDefined } from "../base/pick-defined.js";
import { resolveSettings } from "../base/settings.js";
import type { Examination, ExaminedCheck } from "../doctor/examine.js";
import { causalOrder, type Explanation, explainFailure, type StartFailure } from "../doctor/explain.js";
import type { ExaminedStart } from "../doctor/subject.js";
import { namedInOutput } from "../doctor/symptoms.js";
import { defaultMounts } from "../runtime/docker-defaults.js";
import { readRuntimeErrors } from "../runtime/runtime-command.js";
import type { RuntimeSpec } from "../runtime/runtime-spec.js";
import { type ExamineImageOptions, examineImage } from "./examine-image.js";
import { type MountRecord, MountRecords } from "./mount-record.js";

export interface ExplainedFailure extends Explanation {
  readonly examination: Examination;
}

/** Throws what examineImage throws. */
export async function explainImageFailure(
  options: ExamineImageOptions,
  failure: StartFailure,
): Promise<ExplainedFailure> {
  const { tools } = namedInOutput(failure.output ?? "");
  const examination = await examineImage({
    ...options,
    // What a loader missed is only found by looking for all libraries.
    deps: true,
    tools: [...(options.tools ?? []), ...tools],
  });
  return { ...explainFailure(examination.checks, failure), examination };
}

/**
 * Of a rootfs or container of ours that is still recorded: as its bundle has it, with what its runtime wrote. Undefined where no such id is
 * recorded. Throws USAGE for a plain mount, and what examineImage throws.
 */
export async function explainRecordedFailure(
  id: string,
  failure: StartFailure,
  options: Omit<ExamineImageOptions, "image">,
): Promise<ExplainedFailure | undefined> {
  const settings = resolveSettings(options.settings);
  const record = await new MountRecords(settings.runDir).find(id);
  if (!record) return undefined;
  if (record.kind === "mount")
    throw new SkimError("USAGE", `${id} is a plain mount, which starts nothing; name the image instead`);
  const spec = await bundleSpec(record);
  const told = record.bundle ? await readRuntimeErrors(path.join(record.bundle, "runtime.log")) : [];
  const output = [failure.output ?? "", ...told].filter(Boolean).join("\n");
  return await explainImageFailure(
    {
      ...(spec ? startOf(spec) : {}),
      ...pickDefined({ runtime: record.container?.runtime }),
      ...options,
      image: record.archive,
    },
    { ...pickDefined({ exitCode: failure.exitCode }), ...(output ? { output } : {}) },
  );
}

async function bundleSpec({ bundle }: MountRecord): Promise<RuntimeSpec | undefined> {
  if (!bundle) return undefined;
  const file = path.join(bundle, "config.json");
  try {
    return JSON.parse(await readFile(file, "utf8")) as RuntimeSpec;
  } catch (cause) {
    if (systemErrorCode(cause) === "ENOENT") return undefined;
    throw new SkimError("LOCAL_IO", `bundle ${bundle} has no config.json that can be read`, { cause });
  }
}

/** What a container's config.json says of its start, mounts that every container has left out. */
function startOf({ process: { args, env, cwd, user }, mounts }: RuntimeSpec): ExaminedStart {
  const usual = new Set([
    ...defaultMounts.map(({ destination }) => destination),
    ...["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"],
  ]);
  return {
    entrypoint: args,
    env,
    workdir: cwd,
    user: `${user.uid}:${user.gid}`,
    // A bundle that somebody has edited may have none.
    additionalGids: user.additionalGids ?? [],
    mounts: mounts.filter(
      ({ destination, type }) => !usual.has(destination) && ["bind", "tmpfs"].includes(type),
    ),
  };
}

/** Nobody waits longer for a reason: what is not cached by then was not read by the start either. */
const explainTimeoutMs = 5000;
/**
 * With these a start that came to nothing ends; so do many programs, for reasons of their own. 2: shells and dumb-init; 135 and 139: SIGBUS and SIGSEGV, as of
 * a program that is cut off.
 */
const startExitCodes = [1, 2, 126, 127, 135, 139, 255];

/**
 * For a start that has just failed: the check that explains it. Undefined where none does, and where none could be made: the failure itself is told
 * in any case, and must not be hidden by another one.
 */
export async function causeOfFailedStart(
  options: ExamineImageOptions,
  failure: StartFailure,
): Promise<ExaminedCheck | undefined> {
  if (failure.output === undefined && !startExitCodes.includes(failure.exitCode ?? 1)) return undefined;
  const timeout = AbortSignal.timeout(explainTimeoutMs);
  const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
  try {
    const { cause } = await explainImageFailure({ ...options, checks: causalOrder, signal }, failure);
    // What is only odd explains nothing but what names it.
    return cause?.status === "fail" || failure.output !== undefined ? cause : undefined;
  } catch {
    return undefined;
  }
}
