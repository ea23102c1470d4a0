import { constants } from "node:fs";
import fc from "fast-check";
import type { TreeNode } from "../../src/tree/image-tree.js";
import { treePaths } from "../support/write-tree.js";

/** One thing that operate.py does with one path; the other fields are its arguments. */
export interface Operation {
  readonly do: string;
  /** From the root of the tree, one character a byte; the root itself is empty. */
  readonly path: string;
  readonly [argument: string]: unknown;
}

const borders = [0, 1, 4095, 4096, 4097, 131_072, 2 ** 20 - 1, 2 ** 20, 2 ** 20 + 1, 3 * 2 ** 20, 2 ** 33];
const offset = fc.oneof(fc.constantFrom(...borders), fc.nat(3_200_000));
const length = fc.oneof(fc.constantFrom(...borders.slice(0, -1)), fc.nat(400_000));
const identity = { uid: fc.constantFrom(0, 1, 1234, 65_534), gid: fc.constantFrom(0, 1, 1234, 65_534) };
/** The smallest holds any one entry. */
const bufferBytes = fc.constantFrom(280, 500, 1000, 4096, 32_768, 1 << 20);
const xattrBytes = fc.oneof(fc.constantFrom(0, 1, 5, 100, 65_536), fc.nat(300));

const { O_DIRECTORY, O_NOFOLLOW, O_RDWR, O_WRONLY, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NOATIME } =
  constants;
const O_PATH = 0o10000000;
const openFlags = fc
  .subarray([
    O_DIRECTORY,
    O_NOFOLLOW,
    O_RDWR,
    O_WRONLY,
    O_CREAT,
    O_EXCL,
    O_TRUNC,
    O_APPEND,
    O_NOATIME,
    O_PATH,
  ])
  .map((flags) => flags.reduce((all, flag) => all | flag, 0))
  // EINVAL by itself since Linux 6.4.
  .filter((flags) => !(flags & O_CREAT && flags & O_DIRECTORY));

/** Operations on the names of a tree, and on names that are nearly in it. */
export function randomOperation(root: TreeNode): fc.Arbitrary<Operation> {
  const nodes = treePaths(root);
  const known = fc.constantFrom(...nodes.map(([path]) => path));
  const last = fc.constantFrom(...nodes.map(([path]) => path.split("/").at(-1)!));
  // Up from real directories below the root only: what is above the root is not compared.
  const inside = fc.constantFrom(
    ...nodes.filter(([path, { type }]) => path.includes("/") && type === "directory").map(([path]) => path),
    ".",
  );
  const path = fc.oneof(
    { arbitrary: known, weight: 12 },
    fc.tuple(known, last).map(([directory, name]) => `${directory}/${name}`),
    fc.tuple(known, fc.constantFrom("missing", ".", "n".repeat(256), "")).map((parts) => parts.join("/")),
    fc
      .tuple(inside, known)
      .map(([directory, name]) => (directory === "." ? `./${name}` : `${directory}/../${name}`)),
    known.map((name) => name.replace(/[a-z]/g, (letter) => letter.toUpperCase())),
    known.map((name) => name.slice(0, -1)).filter((name) => !name.endsWith("..")),
    fc.constant(""),
  );
  const names = [...new Set(nodes.flatMap(([, node]) => node.xattrs.map((xattr) => xattr.name as string)))];
  const xattrName = fc.constantFrom(
    ...names,
    ...names,
    "user.none",
    "trusted.none",
    "trusted.overlay.opaque",
    "user.a",
  );

  const operation = (name: string, args: Record<string, fc.Arbitrary<unknown>> = {}) =>
    fc.record({ do: fc.constant(name), path, ...args }) as fc.Arbitrary<Operation>;
  return fc.oneof(
    operation("stat"),
    operation("lstat"),
    operation("statx", {
      // AT_SYMLINK_NOFOLLOW, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC.
      flags: fc.constantFrom(0, 0x100, 0x2100, 0x4100, 0x2000),
      mask: fc.constantFrom(0x7ff, 0xfff),
    }),
    operation("readlink"),
    operation("list", { size: bufferBytes }),
    operation("resume", { size: bufferBytes, at: fc.nat(1000) }),
    {
      arbitrary: operation("pread", { offset, length, how: fc.constantFrom("cached", "cold", "direct") }),
      weight: 4,
    },
    operation("mmap", { offset, length }),
    operation("seek", { offset, whence: fc.constantFrom(0, 2, 3, 4) }),
    operation("getxattr", { name: xattrName, size: xattrBytes, follow: fc.boolean() }),
    operation("listxattr", { size: xattrBytes, follow: fc.boolean() }),
    operation("access", { ...identity, mode: fc.nat(7) }),
    operation("readAs", identity),
    operation("open", { flags: openFlags }),
    operation("openat2", {
      flags: fc.constantFrom(0, O_NOFOLLOW),
      resolve: fc.constantFrom(0, 4, 8, 16, 20),
    }),
    operation("statfs"),
    operation("change", {
      call: fc.constantFrom(
        ...["chmod", "chown", "truncate", "unlink", "rmdir", "mkdir", "symlink", "mkfifo", "rename"],
        ...["link", "utime", "setxattr"],
      ),
    }),
  );
}

/** Everything about every name: what a random list may have left out. */
export function everyOperation(root: TreeNode): Operation[] {
  return treePaths(root).flatMap(([path, { type, fileBytes, xattrs }]): Operation[] => [
    { do: "lstat", path },
    { do: "stat", path },
    { do: "readlink", path },
    { do: "listxattr", path, size: 65_536, follow: false },
    ...xattrs.map(({ name }) => ({ do: "getxattr", path, name, size: 65_536, follow: false })),
    ...(type === "directory" ? [{ do: "list", path, size: 32_768 }] : []),
    ...(type === "file" ? [{ do: "pread", path, offset: 0, length: fileBytes + 1, how: "cold" }] : []),
  ]);
}
