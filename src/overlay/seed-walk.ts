/**
 * Finds where a seed directory goes: walks its path name by name through the upper dir and the image at once, as overlayfs will
 * merge them, and follows symlinks of either inside the root, as the container will.
 *
 * A fresh upper only has what other seeds put there. One that is used again also has what a container left: whiteouts (character
 * device 0:0), opaque directories (what the image has below is gone) and redirects (the directory was renamed: what the image has
 * below is elsewhere). See the kernel's Documentation/filesystems/overlayfs.rst. Nothing else writes to the upper
 * meanwhile (it is locked and not mounted), so what was looked at stays as it was.
 */
import { lstat, readlink } from "node:fs/promises";
import {
  type ByteString,
  byteStringFromText,
  byteStringOf,
  bytesOf,
  displayText,
} from "../base/byte-string.js";
import { SkimError, systemErrorCode } from "../base/errors.js";
import type { NativeBinding } from "../native/binding.js";
import type { ImageDirectories, ImageDirectory } from "./image-directories.js";

/** MAXSYMLINKS of the kernel. */
const symlinksMax = 40;

/** One directory on the way to a seed, the root first. */
export interface WalkedDirectory {
  /** Absolute path in the container, symlinks resolved. */
  readonly path: ByteString;
  /** False where it has to be made in the upper dir. */
  readonly inUpper: boolean;
  /** Where the container sees the image's directory of `imagePath` here; undefined where it sees none. */
  readonly imagePath: ByteString | undefined;
  readonly image: ImageDirectory | undefined;
}

type Step =
  | { readonly kind: "directory"; readonly directory: WalkedDirectory }
  | { readonly kind: "symlink"; readonly target: ByteString }
  | { readonly kind: "removed" }
  | { readonly kind: "other"; readonly owner: "image" | "upper dir" };

export class SeedWalk {
  readonly #upper: ByteString;
  readonly #image: ImageDirectories;
  readonly #native: Pick<NativeBinding, "getXattr">;

  /** `upper` is an absolute path. */
  constructor(upper: string, image: ImageDirectories, native: Pick<NativeBinding, "getXattr">) {
    this.#upper = byteStringFromText(upper);
    this.#image = image;
    this.#native = native;
  }

  /** Where `containerPath` (absolute) lies in the upper dir. */
  upperPath(containerPath: ByteString): Buffer {
    return bytesOf(containerPath === "/" ? this.#upper : ((this.#upper + containerPath) as ByteString));
  }

  /**
   * The directories from the root to `seedPath` (absolute), both included; undefined where a container removed one of
   * them (the upper has a whiteout). Throws MOUNT_FAILED for what is no directory and for a loop of symlinks.
   */
  async directoriesTo(seedPath: string): Promise<WalkedDirectory[] | undefined> {
    const walked = [this.#root()];
    const names = namesOf(byteStringFromText(seedPath));
    let symlinks = 0;
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      if (name === "..") {
        if (walked.length > 1) walked.pop();
        continue;
      }
      const step = await this.#step(walked.at(-1)!, name);
      switch (step.kind) {
        case "directory":
          walked.push(step.directory);
          break;
        case "symlink":
          if (++symlinks > symlinksMax) {
            throw refuse(seedPath, `there are more than ${symlinksMax} symlinks on the way`);
          }
          names.unshift(...namesOf(step.target));
          if (step.target.startsWith("/")) walked.length = 1;
          break;
        case "removed":
          return undefined;
        case "other": {
          const at = displayText(childPath(walked.at(-1)!.path, name));
          throw refuse(seedPath, `the ${step.owner} has ${at}, which is not a directory`);
        }
      }
    }
    return walked;
  }

  #root(): WalkedDirectory {
    const entry = this.#image.findEntry("/" as ByteString);
    const image = entry?.type === "directory" ? entry : undefined;
    return { path: "/" as ByteString, inUpper: true, imagePath: "/" as ByteString, image };
  }

  async #step(parent: WalkedDirectory, name: ByteString): Promise<Step> {
    const path = childPath(parent.path, name);
    const imagePath = parent.imagePath === undefined ? undefined : childPath(parent.imagePath, name);
    const stat = parent.inUpper ? await lstatOrNothing(this.upperPath(path)) : undefined;
    if (!stat) return this.#imageStep(path, imagePath);
    if (stat.isSymbolicLink()) {
      return { kind: "symlink", target: byteStringOf(await readlink(this.upperPath(path), "buffer")) };
    }
    if (stat.isCharacterDevice() && stat.rdev === 0) return { kind: "removed" };
    if (!stat.isDirectory()) return { kind: "other", owner: "upper dir" };
    const belowPath = this.#belowUpper(path, parent.imagePath, imagePath);
    const entry = belowPath === undefined ? undefined : this.#image.findEntry(belowPath);
    const image = entry?.type === "directory" ? entry : undefined;
    return {
      kind: "directory",
      directory: { path, inUpper: true, imagePath: image ? belowPath : undefined, image },
    };
  }

  #imageStep(path: ByteString, imagePath: ByteString | undefined): Step {
    const entry = imagePath === undefined ? undefined : this.#image.findEntry(imagePath);
    if (entry?.type === "symlink") return { kind: "symlink", target: entry.target };
    if (entry?.type === "other") return { kind: "other", owner: "image" };
    return {
      kind: "directory",
      directory: { path, inUpper: false, imagePath: entry ? imagePath : undefined, image: entry },
    };
  }

  /** The image path that a directory of the upper is merged with: a redirect's, none for an opaque one, else its own. */
  #belowUpper(
    path: ByteString,
    parentImagePath: ByteString | undefined,
    ownImagePath: ByteString | undefined,
  ): ByteString | undefined {
    const attribute = (name: string) => {
      const value = this.#native.getXattr(this.upperPath(path), Buffer.from(`trusted.overlay.${name}`));
      return value === null ? undefined : byteStringOf(value);
    };
    if (attribute("opaque") === "y") return undefined;
    const redirect = attribute("redirect");
    if (redirect === undefined) return ownImagePath;
    if (redirect.startsWith("/")) return redirect;
    return parentImagePath === undefined ? undefined : childPath(parentImagePath, redirect);
  }
}

async function lstatOrNothing(path: Buffer) {
  try {
    return await lstat(path);
  } catch (cause) {
    if (systemErrorCode(cause) === "ENOENT") return undefined;
    throw cause;
  }
}

function namesOf(path: ByteString): ByteString[] {
  return path.split("/").filter((name) => name !== "" && name !== ".") as ByteString[];
}

function childPath(parent: ByteString, name: ByteString): ByteString {
  return (parent === "/" ? `/${name}` : `${parent}/${name}`) as ByteString;
}

function refuse(seedPath: string, why: string): SkimError {
  return new SkimError(
    "MOUNT_FAILED",
    `directory ${seedPath} cannot be made in the upper dir: ${why}; choose another path`,
  );
}
