/**
 * Fills an upper dir before its overlay is mounted, so that mount targets and work directories are there with the modes the
 * container expects.
 *
 * A directory of the upper hides mode, owner, xattrs and times of the one below it in the image. So each directory that is made,
 * ancestors included, is a clone of the image's where there is one, and `/` of the merged view, which is the upper dir itself, gets those
 * of the image's root. Each is built aside in the work dir and renamed into place: a directory that can be seen is complete, and
 * inherits neither setgid bit nor default ACL from its parent. Times come last, when no child is made any more.
 */
import { chmod, chown, lstat, mkdir, readdir, rename, rm, rmdir } from "node:fs/promises";
import { type ByteString, bytesOf, displayText } from "../base/byte-string.js";
import { SkimError, systemErrorCode } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import type { NativeBinding } from "../native/binding.js";
import type { ImageDirectories, ImageDirectory } from "./image-directories.js";
import { canonicalMode, type SeedDirectory } from "./seed-directory.js";
import { SeedWalk, type WalkedDirectory } from "./seed-walk.js";

type SeedBinding = Pick<NativeBinding, "getXattr" | "setXattr" | "setTimes">;

export interface SeedUpperOptions {
  /** Absolute path of the upper dir, which is there; empty or kept from an earlier mount. */
  readonly upper: string;
  /** A path on the same filesystem where each directory is built; removed at the end. */
  readonly staging: string;
  readonly image: ImageDirectories;
  readonly directories: readonly SeedDirectory[];
  readonly native: SeedBinding;
  readonly logger?: Logger;
}

/**
 * Makes `directories` in the upper dir. What is in the upper already is not touched; a directory that a container removed is
 * not made again. Resolves to a function that removes what was made (as far as it is still empty).
 * Throws MOUNT_FAILED for a seed that hits something else or lies in /proc; system errors as they are. On failure
 * nothing that was made is left.
 */
export async function seedUpper(options: SeedUpperOptions): Promise<() => Promise<void>> {
  const seeder = new Seeder(options);
  try {
    await seeder.cloneRoot();
    for (const directory of options.directories) await seeder.make(directory);
    seeder.applyTimes();
  } catch (error) {
    await seeder.undo();
    throw error;
  } finally {
    await rm(options.staging, { recursive: true, force: true });
  }
  return () => seeder.undo();
}

interface DirectoryTimes {
  readonly atimeSec: number;
  readonly atimeNsec: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
}

class Seeder {
  readonly #options: SeedUpperOptions;
  readonly #walk: SeedWalk;
  readonly #logger: Logger;
  /** Upper paths, in the order they were made. */
  readonly #made: Buffer[] = [];
  /** By container path: what to set when no child is made any more. */
  readonly #times = new Map<ByteString, DirectoryTimes>();

  constructor(options: SeedUpperOptions) {
    this.#options = options;
    this.#walk = new SeedWalk(options.upper, options.image, options.native);
    this.#logger = options.logger ?? silentLogger;
  }

  /** `/` of the merged view is the upper dir. One with something in it got its attributes when it was first used. */
  async cloneRoot(): Promise<void> {
    const root = this.#options.image.findEntry("/" as ByteString);
    if (root?.type !== "directory" || (await readdir(this.#options.upper)).length > 0) return;
    await this.#setAttributes(Buffer.from(this.#options.upper), root);
    this.#times.set("/" as ByteString, imageTimes(root));
  }

  async make(seed: SeedDirectory): Promise<void> {
    const walked = await this.#walk.directoriesTo(seed.path);
    if (!walked) {
      this.#logger.debug({ path: seed.path, msg: "seed directory stays removed" });
      return;
    }
    const place = walked.at(-1)!.path;
    // What is below is hidden by the container's own /proc. As a working directory it is worse: CVE-2024-21626.
    if (place.startsWith("/proc/")) {
      throw new SkimError(
        "MOUNT_FAILED",
        `directory ${seed.path} cannot be made: it is ${displayText(place)}, which the container's /proc hides; choose another path`,
      );
    }
    for (const [depth, directory] of walked.entries()) {
      if (directory.inUpper) continue;
      await this.#keepTimes(walked[depth - 1]!);
      await this.#makeDirectory(directory, depth === walked.length - 1 ? seed : undefined);
    }
  }

  applyTimes(): void {
    for (const [path, times] of this.#times) {
      const { atimeSec, atimeNsec, mtimeSec, mtimeNsec } = times;
      this.#options.native.setTimes(this.#walk.upperPath(path), atimeSec, atimeNsec, mtimeSec, mtimeNsec);
    }
  }

  async undo(): Promise<void> {
    for (const path of this.#made.splice(0).reverse()) {
      // A directory that is no longer empty, or gone, is somebody else's by now.
      await rmdir(path).catch((error) =>
        this.#logger.debug({ path: String(path), error: String(error), msg: "seed directory left" }),
      );
    }
  }

  async #makeDirectory(directory: WalkedDirectory, seed: SeedDirectory | undefined): Promise<void> {
    const staging = Buffer.from(this.#options.staging);
    await rm(this.#options.staging, { recursive: true, force: true });
    await mkdir(staging, 0o700);
    const text = displayText(directory.path);
    await this.#setAttributes(
      staging,
      directory.image ?? {
        mode: seed?.mode ?? canonicalMode(text),
        uid: seed?.uid ?? 0,
        gid: seed?.gid ?? 0,
        xattrs: [],
      },
    );
    const target = this.#walk.upperPath(directory.path);
    await rename(staging, target);
    this.#made.push(target);
    if (directory.image) this.#times.set(directory.path, imageTimes(directory.image));
    this.#logger.debug({ path: text, cloned: directory.image !== undefined, msg: "directory seeded" });
  }

  async #setAttributes(
    path: Buffer,
    attributes: Pick<ImageDirectory, "mode" | "uid" | "gid" | "xattrs">,
  ): Promise<void> {
    await chown(path, attributes.uid, attributes.gid);
    await chmod(path, attributes.mode & 0o7777);
    for (const { name, value } of attributes.xattrs) {
      // overlayfs would obey these; an archive's reader refuses them already.
      if (/^(trusted|user)\.overlay\./.test(name)) continue;
      try {
        this.#options.native.setXattr(path, bytesOf(name), bytesOf(value));
      } catch (cause) {
        // A tmpfs before Linux 6.6 has no user.*. overlayfs forgives the same when it copies up (ovl_must_copy_xattr).
        const mustKeep = /^(security\.|system\.posix_acl_)/.test(name);
        const unsupported = ["EOPNOTSUPP", "ENOTSUP"].includes(systemErrorCode(cause) ?? "");
        if (mustKeep || !unsupported) throw cause;
        this.#logger.warn({
          name: displayText(name),
          msg: "the upper's filesystem does not take this xattr",
        });
      }
    }
  }

  /** A directory that was there gets its times back after a child is made in it. */
  async #keepTimes(directory: WalkedDirectory): Promise<void> {
    if (!directory.inUpper || this.#times.has(directory.path)) return;
    const upperPath = this.#walk.upperPath(directory.path);
    if (this.#made.some((made) => made.equals(upperPath))) return;
    const stat = await lstat(upperPath, { bigint: true });
    const [atimeSec, atimeNsec] = secondsAndNanoseconds(stat.atimeNs);
    const [mtimeSec, mtimeNsec] = secondsAndNanoseconds(stat.mtimeNs);
    this.#times.set(directory.path, { atimeSec, atimeNsec, mtimeSec, mtimeNsec });
  }
}

function imageTimes({ mtimeSec, mtimeNsec }: ImageDirectory): DirectoryTimes {
  return { atimeSec: mtimeSec, atimeNsec: mtimeNsec, mtimeSec, mtimeNsec };
}

/** Nanoseconds count forward from the second, also before 1970. */
function secondsAndNanoseconds(ns: bigint): [sec: number, nsec: number] {
  const billion = 1_000_000_000n;
  const nsec = ((ns % billion) + billion) % billion;
  return [Number((ns - nsec) / billion), Number(nsec)];
}
