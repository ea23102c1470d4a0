/**
 * The option string of an overlay mount (Documentation/filesystems/overlayfs.rst; fs/overlayfs/params.c).
 *
 * Each option is set, also where it is the kernel's usual default: distributions change defaults by module parameters and
 * build options, and an upper that is used again must find the same ones.
 */
import { SkimError } from "../base/errors.js";

/** mount(2) takes one page of options; what is behind it the kernel cuts off without a word. */
const optionBytesMax = 4095;

const fixedOptions = [
  // A FUSE lower has no lasting file handles to verify with, and an index makes a second use of the upper fail with ESTALE.
  "index=off",
  "nfs_export=off",
  // Without it rename(2) of a directory of the image gives EXDEV: what does not know that fails, and mv copies, which
  // here means to fetch the whole directory. The price: an upper can only be read with its image.
  "redirect_dir=on",
  // With it a chown would not fetch the file, but then such an upper holds files without bytes, which are lost with the image.
  "metacopy=off",
  // One st_dev for the whole tree, so that du -x, find -xdev and tar --one-file-system see one filesystem.
  "xino=auto",
];

export interface OverlayPaths {
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
}

/** Throws MOUNT_FAILED where the paths are too long for one mount. */
export function overlayOptions(paths: OverlayPaths, volatile: boolean): string {
  const options = [
    `lowerdir=${escapePath(paths.lower)}`,
    `upperdir=${escapePath(paths.upper)}`,
    `workdir=${escapePath(paths.work)}`,
    ...fixedOptions,
    ...(volatile ? ["volatile"] : []),
  ].join(",");
  const bytes = Buffer.byteLength(options);
  if (bytes > optionBytesMax) {
    throw new SkimError(
      "MOUNT_FAILED",
      `overlay on ${paths.lower}: its options have ${bytes} bytes, mount(2) takes ${optionBytesMax}; use shorter paths for lower and upper`,
    );
  }
  return options;
}

/** Commas end an option and colons a lower dir. */
function escapePath(path: string): string {
  return path.replace(/[\\,:]/g, "\\$&");
}
