import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";
import { byteNames, longName, oddNames } from "./posix-tree.js";

export const nameChecks: readonly PosixCheck[] = [
  check<unknown[]>(
    "names of 255 bytes are found, longer ones are ENAMETOOLONG in every call, and so are paths of 4096 bytes",
    `
    long, longer = root + b"/names/" + args[1].encode(), root + b"/names/" + args[1].encode() + b"n"
    calls = (os.lstat, os.readlink, os.listxattr, lambda p: os.open(p, os.O_RDONLY), lambda p: os.access(p, os.F_OK) or os.stat(p), os.listdir, lambda p: os.stat(p + b"/x"))
    padded = root + b"/" * (4095 - len(root) - len(b"names")) + b"names"
    tell([os.stat(long).st_size, *[fault(lambda: call(longer)) for call in calls],
      len(padded), fault(lambda: os.stat(padded)), fault(lambda: os.stat(padded + b"/")), fault(lambda: os.stat(root + b"/missing/" + b"n" * 256))])`,
    (told) =>
      expect(told).toEqual([1, ...new Array(7).fill("ENAMETOOLONG"), 4095, "ok", "ENAMETOOLONG", "ENOENT"]),
    { args: [longName] },
  ),

  check<string[]>(
    "what is not there is ENOENT, again and again, and nothing like it is found instead",
    `
    names = (b"missing", b"missing/x", b"types/fil", b"types/filee", b"types/file ", b" types/file", b"types/FILE", b"names/" + b"n" * 254, b"types/missing/", b"types/.../x", b"empty/x")
    tell([fault(lambda: call(root + b"/" + name)) for name in names for call in (os.stat, os.lstat, os.stat, lambda p: os.open(p, os.O_RDONLY))] + [fault(lambda: os.stat(b""))])`,
    (told) => expect(told).toEqual(new Array(45).fill("ENOENT")),
  ),

  check<string[]>(
    "a path through anything but a directory is ENOTDIR",
    `
    names = (b"types/file/x", b"types/file/", b"types/file/.", b"types/file/..", b"types/fifo/x", b"types/null/", b"symlinks/toFile/x", b"symlinks/toFile/", b"types/file/x/y/z")
    tell([fault(lambda: call(root + b"/" + name)) for name in names for call in (os.stat, os.lstat, lambda p: os.open(p, os.O_RDONLY))] + [fault(lambda: os.listdir(root + b"/types/file"))])`,
    (told) => expect(told).toEqual(new Array(28).fill("ENOTDIR")),
  ),

  check<unknown[]>(
    "names with any byte but / and NUL are listed and found, and compared byte by byte",
    `
    names = [raw(n) for n in args[1]]
    found = set(os.listdir(root + b"/names"))
    tell([sorted(found - {b"n" * 255}), [os.stat(root + b"/names/" + n).st_size - len(n) for n in names],
      [fault(lambda: os.stat(root + b"/names/" + n)) for n in (b"CASE", "É".encode(), b"*x", b"a\\nb", b"back")]])`,
    (told) =>
      expect(told).toEqual([[...oddNames].sort(), oddNames.map(() => 0), new Array(5).fill("ENOENT")]),
    { args: [oddNames] },
  ),

  check<unknown[]>(
    "names that are not UTF-8 are names like others",
    `
    names = [raw(n) for n in args[1]]
    tell([sorted(os.listdir(root + b"/bytes")), [os.stat(root + b"/bytes/" + n).st_size for n in names], os.stat(root + b"/bytes/link").st_size,
      os.readlink(root + b"/bytes/link")])`,
    (told) =>
      expect(told).toEqual([
        [...byteNames, "link"].sort(),
        byteNames.map((name) => name.length),
        4,
        "caf\xe9",
      ]),
    { args: [byteNames], exceptions: { "fuse-native": "it cannot pass such names on" } },
  ),

  check<unknown[]>(
    "slashes and dots in a path change nothing",
    `
    there = os.stat(root + b"/types/file").st_ino
    tell([os.stat(root + p).st_ino == there for p in (b"//types///file", b"/./types/./file", b"/types/../types/file", b"/files/../types/directory/../file", b"/empty/../types/file")]
      + [stat.S_ISDIR(os.lstat(root + b"/types/directory///").st_mode)])`,
    (told) => expect(told).toEqual(new Array(6).fill(true)),
  ),

  check<unknown[]>(
    "RESOLVE_BENEATH and RESOLVE_IN_ROOT keep a path inside the tree",
    `
    with opened(root, os.O_PATH) as top, opened(root + b"/symlinks", os.O_PATH) as links:
        ino = os.stat(root + b"/files/small").st_ino
        def opens(fd, path, resolve):
            got = outcome(lambda: openat2(fd, path, os.O_RDONLY, resolve))
            return got if isinstance(got, str) else os.fstat(got).st_ino == ino
        tell([
          opens(top, b"symlinks/toFile", RESOLVE_BENEATH), opens(top, b"symlinks/absolute", RESOLVE_BENEATH), opens(top, b"symlinks/outside", RESOLVE_BENEATH),
          opens(top, b"../x", RESOLVE_BENEATH), opens(links, b"toFile", RESOLVE_BENEATH), opens(top, b"/files/small", RESOLVE_BENEATH),
          opens(top, b"symlinks/absolute", RESOLVE_IN_ROOT), opens(top, b"symlinks/outside", RESOLVE_IN_ROOT), opens(top, b"/../../files/small", RESOLVE_IN_ROOT),
          opens(links, b"toFile", RESOLVE_IN_ROOT), opens(top, b"files/small", RESOLVE_NO_XDEV), opens(top, b"../", RESOLVE_NO_XDEV),
          opens(top, b"symlinks/toFile", RESOLVE_NO_SYMLINKS), opens(top, b"symlinks/toDirectory/../files/small", RESOLVE_NO_SYMLINKS), opens(top, b"files/small", RESOLVE_NO_SYMLINKS),
        ])`,
    (told) =>
      expect(told).toEqual([
        ...[true, "EXDEV", "EXDEV", "EXDEV", "EXDEV", "EXDEV"],
        ...[true, true, true, "ENOENT", true, "EXDEV"],
        ...["ELOOP", "ELOOP", true],
      ]),
  ),
];
