/** What a further process of a container is: the first one's surroundings, with what the caller wants otherwise. */
import { SkimError } from "../base/errors.js";
import { type Accounts, resolveUser } from "./accounts.js";
import { mergeEnvironment, refuseNul, workingDirectory } from "./process-surroundings.js";
import type { RuntimeSpec } from "./runtime-spec.js";

export interface ExecProcessOptions {
  /** The first process, as config.json has it. */
  readonly first: RuntimeSpec["process"];
  readonly args: readonly string[];
  /** `user[:group]`, names or numbers; default: as the first process. */
  readonly user?: string;
  /** To look `user` and the first process's home up in. */
  readonly accounts: Accounts;
  /** `NAME=value`, over the first process's. */
  readonly env?: readonly string[];
  readonly workdir?: string;
  readonly terminal?: boolean;
}

/** Throws USAGE for a user that is not there, no command, and a working directory that cannot be. */
export function buildExecProcess(options: ExecProcessOptions): RuntimeSpec["process"] {
  const { first, accounts, terminal = false } = options;
  if (options.args.length === 0)
    throw new SkimError("USAGE", "there is no command to execute; give one behind --");
  const given = options.user === undefined ? undefined : resolveUser(options.user, accounts, "option");
  const user = given ?? first.user;
  const bounding = first.capabilities.bounding;
  const own = user.uid === 0 ? bounding : [];
  return {
    ...first,
    terminal,
    user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
    args: refuseNul(options.args, "the command"),
    env: refuseNul(
      mergeEnvironment([
        ...(terminal ? ["TERM=xterm"] : []),
        ...first.env,
        ...(given ? homeOf(given.home, first, accounts) : []),
        ...(options.env ?? []),
      ]),
      "the environment",
    ),
    cwd: options.workdir === undefined ? first.cwd : workingDirectory(options.workdir, "option"),
    capabilities: { bounding, effective: own, permitted: own },
  };
}

/** Another user's HOME, unless the first process has one that is not its user's: then somebody has set it. */
function homeOf(home: string, first: RuntimeSpec["process"], accounts: Accounts): string[] {
  const before = first.env.find((one) => one.startsWith("HOME="))?.slice("HOME=".length);
  const usual = resolveUser(`${first.user.uid}`, accounts, "image").home;
  return before === undefined || before === usual ? [`HOME=${home}`] : [];
}
