/** All mounts of this host as they are now: what is recorded of each, and what its server says. */
import { type AskServer, askOwnServer, type ListedMount, listMounts } from "./mount-stats.js";
import type { MountStats } from "./serve-image.js";

/** A server answers in milliseconds; one that takes longer than this is shown as silent, and holds nobody up. */
const answerTimeoutMs = 900;
/** A reader who waits for longer than that would be noticed. */
const stuckMsMin = 2000;

/**
 * - serving: all is well.
 * - stuck: a reader has waited for seconds.
 * - silent: the server is there and does not answer.
 * - dead: it has ended, and readers get ENOTCONN.
 */
export type MountState = "serving" | "stuck" | "silent" | "dead";

export interface ObservedMount extends ListedMount {
  readonly state: MountState;
  /** Undefined where no server answers. */
  readonly stats: MountStats | undefined;
}

/** An image that a daemon shares is one mount, whatever stands on it. */
export async function observeMounts(
  runDir: string,
  ask: AskServer = askOwnServer(runDir),
): Promise<ObservedMount[]> {
  const mounts = (await listMounts(runDir)).filter(({ imageId }) => imageId === undefined);
  return await Promise.all(
    mounts.map(async (mount) => {
      const stats = mount.alive ? await askForStats(ask, mount.id) : undefined;
      return { ...mount, stats, state: stateOf(mount.alive, stats) };
    }),
  );
}

async function askForStats(ask: AskServer, id: string): Promise<MountStats | undefined> {
  try {
    return (await ask(id, "stats", answerTimeoutMs)) as MountStats | undefined;
  } catch {
    // It has refused, or it went while it was asked: whoever looks at all mounts must not fail for one.
    return undefined;
  }
}

function stateOf(alive: boolean, stats: MountStats | undefined): MountState {
  if (!alive) return "dead";
  if (!stats) return "silent";
  return stats.waitingLongest.some(({ ageMs }) => ageMs >= stuckMsMin) ? "stuck" : "serving";
}
