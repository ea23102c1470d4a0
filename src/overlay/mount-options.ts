/**
 * The options of an overlay mount (Documentation/filesystems/overlayfs.rst; fs/overlayfs/params.c), each with the reason that is kept in the
 * record of the mount.
 *
 * Each option is set, also where it is the kernel's usual default: distributions change defaults by module parameters and
 * build options, and an upper that is used again must find the same ones.
 */
import { SkimError } from "../base/errors.js";

/** mount(2) takes one page of options; what is behind it the kernel cuts off without a word. */
const optionBytesMax = 4095;

export interface OverlayOption {
  /** As mount(2) takes it: `metacopy=on`, `volatile`. */
  readonly option: string;
  readonly reason: string;
}

const fixedOptions: readonly OverlayOption[] = [
  {
    option: "index=off",
    reason:
      "a FUSE lower has no lasting file handles to verify an index with, and a second use of the upper would fail with ESTALE",
  },
  { option: "nfs_export=off", reason: "it needs index=on, and the kernel refuses it beside metacopy=on" },
  {
    // Without it rename(2) of a directory of the image gives EXDEV: what does not know that fails, and mv copies.
    option: "redirect_dir=on",
    reason:
      "a directory of the image is renamed where it is, instead of being fetched and copied; metacopy=on needs it",
  },
  {
    // on would give the whole tree one st_dev also above the native engine, which has no file handles, but inode numbers from 2^63: more
    // than a double of JavaScript tells apart, and EOVERFLOW for 32-bit programs.
    option: "xino=auto",
    reason: "one st_dev for the whole tree where the lower has file handles; else the kernel turns it off",
  },
];

const metacopyOn: OverlayOption = {
  // The price is paid later, by whoever looks into the upper: it has files that are all hole, whose bytes are the image's.
  option: "metacopy=on",
  reason:
    "chown, chmod, utimes, setxattr, rename and link of a file of the image copy its metadata and fetch none of its bytes",
};

const metacopyOff: OverlayOption = {
  option: "metacopy=off",
  reason: "this kernel does not do metacopy=on: chown, chmod and the like fetch the whole file",
};

const volatileOption: OverlayOption = {
  option: "volatile",
  reason: "asked for: the upper is never synced, and is refused after a crash of the machine",
};

/** What leaves things in an upper that a mount without it cannot read. */
const lastingOptions = ["redirect_dir=on", "metacopy=on"];

export function chooseOptions(how: {
  readonly volatile: boolean;
  readonly metacopy: boolean;
}): OverlayOption[] {
  const metacopy = how.metacopy ? metacopyOn : metacopyOff;
  return [...fixedOptions, metacopy, ...(how.volatile ? [volatileOption] : [])];
}

/** Those of the options that an upper had which a mount with `now` lacks, and without which it cannot be read. */
export function missingOptions(before: readonly string[], now: readonly OverlayOption[]): string[] {
  return before.filter(
    (option) => lastingOptions.includes(option) && !now.some((other) => other.option === option),
  );
}

export interface OverlayPaths {
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
}

/** The string for mount(2). Throws MOUNT_FAILED where the paths are too long for one mount. */
export function overlayOptions(
  paths: OverlayPaths,
  volatile: boolean,
  chosen: readonly OverlayOption[] = chooseOptions({ volatile, metacopy: true }),
): string {
  const options = [
    `lowerdir=${escapePath(paths.lower)}`,
    `upperdir=${escapePath(paths.upper)}`,
    `workdir=${escapePath(paths.work)}`,
    ...chosen.map(({ option }) => option),
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
