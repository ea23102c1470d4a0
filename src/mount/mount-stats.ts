/** What the server of a mount says of itself, and the list of what is mounted on this host. */
import { SkimError } from "../base/errors.js";
import { isRunning, type ProcessIdentity } from "../base/process-identity.js";
import type { OverlayOption } from "../overlay/mount-options.js";
import type { OverlayMount } from "../overlay/overlay-mount.js";
import { callControlSocket } from "./control-socket.js";
import { type MountRecord, MountRecords } from "./mount-record.js";
import type { MountStats } from "./serve-image.js";

export type { MountStats };

/** What the server of a mount answers; undefined where it does not. Throws what it refused with. */
export type AskServer = (
  id: string,
  operation: "stats" | "start",
  timeoutMs?: number,
) => Promise<object | undefined>;

/** Asks servers that have one mount each. Those of a daemon are asked through it (src/control/host.ts). */
export function askOwnServer(runDir: string): AskServer {
  const records = new MountRecords(runDir);
  return async (id, operation, timeoutMs) => {
    const reply = await callControlSocket(records.socketFile(id), { operation }, timeoutMs);
    reply?.disconnect();
    return reply?.answer;
  };
}

/** Throws NOT_FOUND where no server of that id answers. */
export async function readStats(ask: AskServer, id: string): Promise<MountStats> {
  return (await answerOf(ask, id, "stats")) as MountStats;
}

/** Throws NOT_FOUND where no server of that id answers. */
export async function answerOf(ask: AskServer, id: string, operation: "stats" | "start"): Promise<object> {
  const answer = await ask(id, operation);
  if (answer) return answer;
  throw new SkimError("NOT_FOUND", `no mount server answers for ${id}; skim ps lists what is mounted`);
}

export interface ListedMount {
  readonly id: string;
  readonly kind: MountRecord["kind"];
  readonly reference: string;
  readonly lower: string;
  readonly pid: number | undefined;
  /** False when the server has died: readers get ENOTCONN until it is unmounted. */
  readonly alive: boolean;
  readonly createdAt: string;
  /** Of the image's mount that a daemon shares. */
  readonly imageId?: string;
  /** Of the overlay on it, if there is one: what it is mounted with, and why. Empty where its record is from before skim kept that. */
  readonly overlayOptions?: readonly OverlayOption[];
}

export async function listMounts(runDir: string): Promise<ListedMount[]> {
  const records = await new MountRecords(runDir).list();
  const byId = new Map(records.map((record) => [record.id, record]));
  const serverOf = ({ server, sharedImage }: MountRecord) =>
    sharedImage === undefined ? server : byId.get(sharedImage)?.server;
  return records.map((record) => ({
    id: record.id,
    kind: record.kind,
    reference: record.reference,
    lower: record.lower,
    pid: serverOf(record)?.pid,
    alive: isAlive(serverOf(record)),
    createdAt: record.createdAt,
    ...(record.sharedImage === undefined ? {} : { imageId: record.sharedImage }),
    ...(record.overlay ? { overlayOptions: (record.overlay as OverlayMount).options ?? [] } : {}),
  }));
}

function isAlive(server: ProcessIdentity | undefined): boolean {
  return server !== undefined && isRunning(server);
}
