/**
 * The record of what is mounted: one JSON file for each mount or rootfs, `<runDir>/mounts/<id>.json`.
 *
 * It is written before the first thing it names exists and removed after the last is gone, so that whoever comes after a crash finds everything there
 * is to undo. Creating the file exclusively is also what makes an id unique.
 */
import { randomBytes } from "node:crypto";
import { link, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { identifyProcess } from "../base/process-identity.js";
import { runtimeNames } from "../runtime/runtime-command.js";

const processSchema = z.object({ pid: z.number().int(), startTicks: z.number() });

const recordSchema = z.object({
  recordVersion: z.literal(1),
  id: z.string(),
  /** What made it: `skim mount`, `skim rootfs mount`, `skim bundle` or `skim run`; `image` is what several of them share in a daemon. */
  kind: z.enum(["mount", "rootfs", "bundle", "run", "image"]),
  reference: z.string(),
  archive: z.string(),
  /** Where the FUSE filesystem is mounted. */
  lower: z.string(),
  logFile: z.string(),
  createdAt: z.string(),
  /** The process that serves `lower`. */
  server: processSchema.optional(),
  /** The process that mounts it. */
  owner: processSchema.optional(),
  /** Mounted as a whole, and meant to outlive the process that mounted it. Never set for `skim run`. */
  complete: z.boolean().optional(),
  /** The record of kind `image` that has `lower`. Whoever undoes this one leaves it alone. */
  sharedImage: z.string().optional(),
  /** Of the request that made it: one that is sent again, for its answer was lost, finds what it made. */
  requestToken: z.string().optional(),
  /** Servers in a row that have ended because this one answered nothing. */
  wedged: z.number().optional(),
  /** Directories that were made for this and go with it, innermost last. */
  madeDirectories: z.array(z.string()),
  /** As src/overlay needs it to undo the overlay, with the options it is mounted with and their reasons. */
  overlay: z.unknown().optional(),
  /** Where the overlay is, or was about to be, mounted. */
  merged: z.string().optional(),
  /** Holds what is ours of the writable layer. */
  writableDirectory: z.string().optional(),
  /** The upper dir is the caller's, and stays. */
  upperGiven: z.boolean().optional(),
  /** Where that is. */
  upper: z.string().optional(),
  container: z.object({ runtime: z.enum(runtimeNames), id: z.string(), stateDir: z.string() }).optional(),
  bundle: z.string().optional(),
  /** Of the process that mounts it; see start-marks.ts. */
  startMarks: z.record(z.string(), z.number()).optional(),
});

export type MountRecord = z.infer<typeof recordSchema>;

const idPattern = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

/** A new id, e.g. `run-5f0c3a9e12`. */
export function newMountId(kind: MountRecord["kind"]): string {
  return `${kind}-${randomBytes(5).toString("hex")}`;
}

export class MountRecords {
  readonly #directory: string;

  constructor(runDir: string) {
    this.#directory = path.join(runDir, "mounts");
  }

  /** Reserves the id of `record` and writes it. Throws IN_USE when the id is taken, USAGE when it cannot be a file name, LOCAL_IO. */
  async create(record: MountRecord): Promise<void> {
    requireMountId(record.id);
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    // Written beside and linked: a record is there as a whole or not at all, and only once.
    const beside = `${this.#file(record.id)}.${process.pid}.new`;
    try {
      await writeFile(beside, JSON.stringify(record, null, 1), { mode: 0o600 });
      await link(beside, this.#file(record.id));
    } catch (cause) {
      if (systemErrorCode(cause) !== "EEXIST") throw unwritable(record.id, cause);
      if (await this.#isUnreadable(record.id))
        throw new SkimError(
          "IN_USE",
          `id ${record.id} is taken by a record that cannot be read; choose another one, or see ${this.#file(record.id)}`,
          { cause },
        );
      throw new SkimError(
        "IN_USE",
        `id ${record.id} is taken; choose another one, or undo it with: skim ${record.kind === "mount" ? "umount" : "rootfs umount"} ${record.id}`,
        { cause },
      );
    } finally {
      await rm(beside, { force: true });
    }
  }

  /** Replaces the record of the same id, atomically. Throws LOCAL_IO; then the one before stays. */
  async update(record: MountRecord): Promise<void> {
    const beside = `${this.#file(record.id)}.${process.pid}.new`;
    try {
      await writeFile(beside, JSON.stringify(record, null, 1), { mode: 0o600 });
      await rename(beside, this.#file(record.id));
    } catch (cause) {
      await rm(beside, { force: true });
      throw unwritable(record.id, cause);
    }
  }

  /** Takes away what processes that were killed while they wrote a record have left beside it. */
  async removeHalfWritten(): Promise<void> {
    for (const name of await this.#names()) {
      const pid = /\.(\d+)\.new$/.exec(name)?.[1];
      if (pid === undefined || identifyProcess(Number(pid))) continue;
      await rm(path.join(this.#directory, name), { force: true });
    }
  }

  async remove(id: string): Promise<void> {
    await rm(this.#file(id), { force: true });
  }

  async find(id: string): Promise<MountRecord | undefined> {
    if (!idPattern.test(id)) return undefined;
    try {
      return parseRecord(await readFile(this.#file(id), "utf8"));
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  async list(): Promise<MountRecord[]> {
    const records = await Promise.all((await this.#ids()).map((id) => this.find(id)));
    return records.filter((record) => record !== undefined);
  }

  /** Files of records that make no sense here, by id: half written in a crash, or of another version. What they name is not known, and their ids are taken. */
  async unreadable(): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    for (const id of await this.#ids())
      if (idPattern.test(id) && (await this.#isUnreadable(id))) found.set(id, this.#file(id));
    return found;
  }

  async #isUnreadable(id: string): Promise<boolean> {
    const text = await readFile(this.#file(id), "utf8").catch(() => undefined);
    return text !== undefined && parseRecord(text) === undefined;
  }

  async #ids(): Promise<string[]> {
    const names = (await this.#names()).filter((name) => name.endsWith(".json"));
    return names.map((name) => name.slice(0, -".json".length)).sort();
  }

  /** Unix socket on which the server of `id` answers; see control-socket.ts. */
  socketFile(id: string): string {
    return path.join(this.#directory, `${id}.sock`);
  }

  async #names(): Promise<string[]> {
    return await readdir(this.#directory).catch((error: unknown) => {
      if (systemErrorCode(error) === "ENOENT") return [];
      throw error;
    });
  }

  #file(id: string): string {
    return path.join(this.#directory, `${id}.json`);
  }
}

export function requireMountId(id: string): void {
  if (idPattern.test(id)) return;
  throw new SkimError(
    "USAGE",
    `id ${JSON.stringify(id)} cannot be used: 1 to 64 letters, digits, and _ . - behind the first`,
  );
}

/** The run directory is a tmpfs: small, and full where something else on it has grown. */
function unwritable(id: string, cause: unknown): SkimError {
  return new SkimError("LOCAL_IO", `the record of ${id} cannot be written`, { cause });
}

/** A record that cannot be read (half written in a crash before its first sync) names nothing that could be undone. */
function parseRecord(text: string): MountRecord | undefined {
  try {
    return recordSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
