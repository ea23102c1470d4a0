/** `skim mount --foreground`: this process is the server, until it is interrupted or somebody unmounts. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describeError, SkimError } from "../base/errors.js";
import { silentLogger } from "../base/logger.js";
import { identifyProcess } from "../base/process-identity.js";
import { resolveSettings } from "../base/settings.js";
import { openImageOrArchive } from "./image-or-archive.js";
import {
  beginMarks,
  type MountedImage,
  type MountImageOptions,
  newRecord,
  resolveMountpoint,
  serverOptions,
} from "./mount-image.js";
import { MountRecords, newMountId } from "./mount-record.js";
import { startMountServer } from "./mount-server.js";

const interrupts = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Mounts, calls `onMounted` once the mount answers, and resolves when it is gone. From then on interrupts are taken here: the first unmounts, or logs who
 * uses the mount; the next takes it away from them. */
export async function mountInForeground(
  options: MountImageOptions,
  onMounted: (mounted: MountedImage) => void,
): Promise<void> {
  const marks = beginMarks(options);
  const settings = resolveSettings(options.settings);
  const lower = await resolveMountpoint(options.directory);
  const opened = await openImageOrArchive(options.image, { ...options, marks });
  await opened.archive.close();
  const logger = options.logger ?? silentLogger;
  const id = options.id ?? newMountId("mount");
  const records = new MountRecords(settings.runDir);
  const record = newRecord({ id, kind: "mount", opened, lower, settings });
  record.server = identifyProcess(process.pid);
  await records.create(record);
  try {
    const server = await startMountServer(serverOptions(record, opened, options, settings), logger, marks);
    let force = options.signal?.aborted ?? false;
    const shutdown = () => {
      server.shutdown({ force }).catch((error: unknown) => {
        logger.error(
          { id, error: describeError(error) },
          "still mounted; interrupt again to unmount by force",
        );
      });
      force = true;
    };
    for (const name of interrupts) process.on(name, shutdown);
    try {
      await confirmFromOutside(lower);
      marks.set("ready");
      if (options.signal?.aborted) shutdown();
      const { reference, archive } = record;
      onMounted({ id, mountpoint: lower, reference, archive, pid: process.pid, log: "(standard error)" });
    } catch (error) {
      shutdown();
      throw error;
    } finally {
      await server.ended;
      for (const name of interrupts) process.off(name, shutdown);
    }
  } finally {
    await records.remove(id);
  }
}

/** The process that serves must not stat its own mount, so another one does. */
async function confirmFromOutside(mountpoint: string): Promise<void> {
  try {
    await promisify(execFile)("stat", ["--format=%i", "--", mountpoint]);
  } catch (cause) {
    throw new SkimError("MOUNT_FAILED", `mount at ${mountpoint} does not answer`, { cause });
  }
}
