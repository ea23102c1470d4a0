/**
 * What an upper dir remembers of its mounts: the image whose changes it holds, and the options it was written with.
 *
 * The kernel checks neither, and both ruin the tree. Above another image, a file of which the upper has only metadata (metacopy)
 * has its old owner, mode and size, and the bytes that the other image has at that path; a renamed directory (redirect_dir) has the other image's
 * content. Without these options such names give EPERM, and cannot even be removed.
 *
 * The mark is an xattr of the upper dir, so that it goes where the upper goes. Its name is in the kernel's own namespace, because what begins
 * with `trusted.overlay.` is hidden in the merged view and cannot be changed through it, not even with CAP_SYS_ADMIN; a name that
 * the kernel does not know means nothing to it (ovl_is_private_xattr, ovl_is_own_xattr; fs/overlayfs/xattrs.c).
 */
import { readdir } from "node:fs/promises";
import { SkimError } from "../base/errors.js";
import type { NativeBinding } from "../native/binding.js";
import { missingOptions, type OverlayOption } from "./mount-options.js";

const markName = Buffer.from("trusted.overlay.skim");
/** No mark: there is no removexattr in the binding, and nothing is lost by an empty one. */
const noMark = new Uint8Array();

type MarkBinding = Pick<NativeBinding, "getXattr" | "setXattr">;

interface MarkContent {
  readonly manifestDigest?: string;
  readonly options: readonly string[];
}

export class UpperMark {
  readonly #upper: string;
  readonly #native: MarkBinding;
  readonly #before: Uint8Array | null;
  readonly #content: MarkContent | undefined;

  private constructor(upper: string, native: MarkBinding, before: Uint8Array | null, empty: boolean) {
    this.#upper = upper;
    this.#native = native;
    this.#before = before;
    this.#content = before && before.length > 0 && !empty ? parseMark(upper, before) : undefined;
  }

  /** Reads the mark of `upper`. An empty upper fits everything, whatever it held before. Throws MOUNT_FAILED for a mark of another make. */
  static async read(upper: string, native: MarkBinding): Promise<UpperMark> {
    const before = native.getXattr(Buffer.from(upper), markName);
    return new UpperMark(upper, native, before, (await readdir(upper)).length === 0);
  }

  /** Throws MOUNT_FAILED, naming both, where the upper holds changes to another image. `manifestDigest` undefined: not known. */
  requireImage(manifestDigest: string | undefined): void {
    const before = this.#content?.manifestDigest;
    if (before === undefined || manifestDigest === undefined || before === manifestDigest) return;
    throw new SkimError(
      "MOUNT_FAILED",
      `upper dir ${this.#upper} holds changes to the image with manifest ${before} and does not fit ${manifestDigest}: files would show wrong bytes; use it with that image, or another upper dir`,
    );
  }

  /** Throws MOUNT_FAILED, naming both, where the upper was written with options that `now` lacks and it cannot be read without. */
  requireOptions(now: readonly OverlayOption[]): void {
    const missing = missingOptions(this.#content?.options ?? [], now);
    if (missing.length === 0) return;
    throw new SkimError(
      "MOUNT_FAILED",
      `upper dir ${this.#upper} was written with ${missing.join(",")}, and here overlayfs can only be mounted with ${now.map(({ option }) => option).join(",")}: changed files would not be readable; use it on a kernel that can, or another upper dir`,
    );
  }

  /** Notes what the mount that is about to be made may write, beside what the ones before have. */
  write(manifestDigest: string | undefined, options: readonly OverlayOption[]): void {
    const before = this.#content;
    const digest = manifestDigest ?? before?.manifestDigest;
    const content: MarkContent = {
      ...(digest === undefined ? {} : { manifestDigest: digest }),
      options: [...options.map(({ option }) => option), ...missingOptions(before?.options ?? [], options)],
    };
    this.#set(Buffer.from(JSON.stringify(content)));
  }

  /** Puts back what was there before `write`. */
  restore(): void {
    this.#set(this.#before ?? noMark);
  }

  #set(value: Uint8Array): void {
    this.#native.setXattr(Buffer.from(this.#upper), markName, value);
  }
}

function parseMark(upper: string, bytes: Uint8Array): MarkContent {
  try {
    const content: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    if (isMarkContent(content)) return content;
  } catch {
    // Said below.
  }
  throw new SkimError(
    "MOUNT_FAILED",
    `upper dir ${upper} has a mark that this version of skim does not read; use the version that made it, or another upper dir`,
  );
}

function isMarkContent(content: unknown): content is MarkContent {
  if (typeof content !== "object" || content === null || !("options" in content)) return false;
  if ("manifestDigest" in content && typeof content.manifestDigest !== "string") return false;
  return Array.isArray(content.options) && content.options.every((option) => typeof option === "string");
}
