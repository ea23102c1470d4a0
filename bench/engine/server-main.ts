/**
 * The process that serves the mounts of the engine benchmark, one at a time. Its parent says by IPC what to open and mount.
 *
 * It does what a mount server of skim does (src/mount/mount-server.ts), but keeps an image open from one mount to the next, so that a mount can
 * be measured apart from what comes before it. It never touches what it mounts. It ends when its parent does; the mount is then dead,
 * and goes with the mount namespace of the run.
 */
import type { Archive } from "../../src/archive/archive.js";
import { openArchive } from "../../src/archive/archive-reader.js";
import { invariant } from "../../src/base/errors.js";
import { createLogger } from "../../src/base/logger.js";
import { resolveSettings } from "../../src/base/settings.js";
import { ImageFilesystem } from "../../src/filesystem/image-filesystem.js";
import { openEngine } from "../../src/fuse/engine.js";
import type { FuseSession } from "../../src/fuse/fuse-session.js";
import { type ImageContent, openImageContent } from "../../src/mount/image-content.js";
import { answerRequests } from "../support/asked-process.js";
import type { ServerAnswers, ServerRequests } from "./server-protocol.js";

const logger = createLogger("warn", 2);

let image: { readonly archive: Archive; readonly opened: ImageContent } | undefined;
let session: FuseSession | undefined;

answerRequests<ServerRequests, ServerAnswers>({
  async open({ archive: file, cacheDir }) {
    invariant(!image, "one image is open at a time");
    const started = performance.now();
    const archive = await openArchive(file);
    const archiveMs = performance.now() - started;
    const settings = resolveSettings({ cacheDir }, {});
    const opened = await openImageContent({ archive, source: archive.identity.reference, settings, logger });
    image = { archive, opened };
    return { archiveMs };
  },

  async mount({ engine, mountpoint }) {
    invariant(image && !session, "an image is open, and not mounted");
    const { archive, opened } = image;
    const { content } = opened;
    const filesystem = new ImageFilesystem({ archive, content });
    const options = { mountpoint, allowOther: true, fsName: `skim-bench:${engine}`, logger };
    session = await openEngine(engine).mount({ archive, content, filesystem }, options);
    return {};
  },

  async unmount({ force }) {
    await session?.unmount({ force });
    session = undefined;
    return {};
  },

  async operations() {
    return session?.operations.snapshot() ?? {};
  },

  async fetches() {
    return { requests: image?.opened.source.counters.requests ?? 0 };
  },

  async close() {
    await image?.opened.close();
    await image?.archive.close();
    image = undefined;
    return {};
  },
});
