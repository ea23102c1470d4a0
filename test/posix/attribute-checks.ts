import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";
import { hugeBytes } from "./posix-tree.js";

type Attributes = Record<string, string | number>;

export const attributeChecks: readonly PosixCheck[] = [
  check<Record<string, unknown[]>>(
    "stat tells type, mode, owner, size and device of every kind of file",
    `
    def facts(name):
        s = os.lstat(root + b"/types/" + name)
        size = None if stat.S_ISDIR(s.st_mode) else s.st_size
        return [oct(s.st_mode), s.st_uid, s.st_gid, size, [os.major(s.st_rdev), os.minor(s.st_rdev)]]
    tell({name.decode(): facts(name) for name in os.listdir(root + b"/types")})`,
    (told) =>
      expect(told).toEqual({
        file: ["0o100644", 1, 2, 12_345, [0, 0]],
        directory: ["0o40750", 3, 0, null, [0, 0]],
        symlink: ["0o120777", 4, 5, 4, [0, 0]],
        fifo: ["0o10622", 0, 6, 0, [0, 0]],
        null: ["0o20666", 0, 0, 0, [1, 3]],
        unknown: ["0o20600", 0, 0, 0, [4095, 1_048_575]],
        block: ["0o60660", 4_000_000_000, 4_294_967_294, 0, [4095, 300]],
        setuid: ["0o104711", 0, 0, 1, [0, 0]],
        setgid: ["0o102755", 0, 33, 1, [0, 0]],
        sticky: ["0o41777", 0, 0, null, [0, 0]],
        inherits: ["0o42775", 0, 33, null, [0, 0]],
        nobody: ["0o100000", 0, 0, 1, [0, 0]],
      }),
  ),

  check<unknown[]>(
    "the root has mode, owner and time of the tree's root",
    `
    s = os.stat(root)
    tell([oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns // 10**9])`,
    (told) => expect(told).toEqual(["0o40755", 7, 8, 1_500_000_000]),
  ),

  check<Record<string, number>>(
    "a file has as many links as names, a directory 2 and one for each directory in it",
    `
    names = [b"", b"types", b"types/directory", b"types/directory/one", b"crowd", b"links/first", b"links/elsewhere/third", b"links/other", b"types/fifo", b"types/symlink"]
    tell({name.decode(): os.lstat(root + b"/" + name).st_nlink for name in names})`,
    (told) =>
      expect(told).toEqual({
        "": 14,
        types: 5,
        "types/directory": 4,
        "types/directory/one": 2,
        crowd: 2,
        "links/first": 3,
        "links/elsewhere/third": 3,
        "links/other": 1,
        "types/fifo": 1,
        "types/symlink": 1,
      }),
  ),

  check<{ files: number; numbers: number; linkless: string[]; devices: number }>(
    "inode numbers differ, but for names of one file, and nothing has 0 links",
    `
    numbers, linkless, devices, files = {}, [], set(), 0
    for top, directories, names in os.walk(root):
        for name in [b"."] + names:
            path = os.path.join(top, name)
            s = os.lstat(path)
            numbers.setdefault(s.st_ino, []).append(path)
            devices.add(s.st_dev)
            files += 1
            if s.st_nlink == 0: linkless.append(path)
    shared = [paths for paths in numbers.values() if len(paths) > 1]
    tell({"shared": [sorted(os.path.basename(p) for p in paths) for paths in shared], "linkless": linkless, "devices": len(devices),
      "apart": os.stat(root).st_dev != os.stat(os.path.dirname(root)).st_dev, "zero": 0 in numbers})`,
    (told) =>
      expect(told).toEqual({
        shared: [["first", "second", "third"]],
        linkless: [],
        devices: 1,
        apart: true,
        zero: false,
      }),
  ),

  check<number[]>(
    "times are kept to the millisecond, also those after 2038",
    `tell([os.stat(root + b"/times/" + n).st_mtime_ns // 10**6 for n in (b"milliseconds", b"nanoseconds", b"after2038", b"zero", b"../types/sticky")])`,
    (told) => expect(told).toEqual([1_600_000_000_987, 1_600_000_000_123, 5_000_000_000_000, 0, 5250]),
  ),

  check<number>(
    "times are kept to the nanosecond",
    `tell(os.stat(root + b"/times/nanoseconds").st_mtime_ns % 10**9)`,
    (told) => expect(told).toBe(123_456_789),
    { exceptions: { "fuse-native": "it has milliseconds" } },
  ),

  check<string>(
    "times before 1970 are kept",
    `tell(str(os.stat(root + b"/times/before1970").st_mtime_ns))`,
    (told) => expect(told).toBe("-999999999750000000"),
    { exceptions: { "fuse-native": "it has no time before 1970" } },
  ),

  check<Attributes[]>(
    "statx says what stat says, of paths and of descriptors, whatever it is asked for and however",
    `
    def pair(name):
        path = root + b"/" + name
        s = os.lstat(path)
        plain = dict(mode=s.st_mode, nlink=s.st_nlink, uid=s.st_uid, gid=s.st_gid, ino=s.st_ino, size=s.st_size, blocks=s.st_blocks,
                     blksize=s.st_blksize, mtime=s.st_mtime_ns, rdev=[os.major(s.st_rdev), os.minor(s.st_rdev)])
        found = []
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        for x in (statx(AT_FDCWD, path), statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC),
                  statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC), statx(fd, b"", AT_EMPTY_PATH)):
            if x.pop("mask") & 0x7ff != 0x7ff: found.append("a base field is missing")
            if x != plain: found.append([name, x, plain])
        only = statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 1)
        if stat.S_IFMT(only["mode"]) != stat.S_IFMT(s.st_mode): found.append([name, "type only", only["mode"]])
        return found
    tell([wrong for n in [b""] + [b"types/" + n for n in os.listdir(root + b"/types")] for wrong in pair(n)])`,
    (told) => expect(told).toEqual([]),
  ),

  check<boolean[]>(
    "fstat of an open file, of one opened with O_PATH, and stat relative to a directory agree with lstat",
    `
    def same(a, b): return all(getattr(a, f) == getattr(b, f) for f in ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size", "st_mtime_ns"))
    there = os.open(root + b"/types", os.O_RDONLY)
    result = []
    for name in (b"file", b"directory"):
        with opened(root + b"/types/" + name) as fd: result.append(same(os.fstat(fd), os.lstat(root + b"/types/" + name)))
    for name in os.listdir(root + b"/types"):
        with opened(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=there) as fd: result.append(same(os.fstat(fd), os.lstat(root + b"/types/" + name)))
        result.append(same(os.stat(name, dir_fd=there, follow_symlinks=False), os.lstat(root + b"/types/" + name)))
    tell(result)`,
    (told) => expect(told).toEqual(new Array(26).fill(true)),
  ),

  check<[number, number, number]>(
    "a file of data has blocks of 512 bytes for all of it, and a block size that is a power of 2",
    `
    s = os.stat(root + b"/files/plain")
    tell([s.st_blocks * 512 - s.st_size, os.stat(root + b"/files/empty").st_blocks, s.st_blksize & (s.st_blksize - 1)])`,
    ([spare, empty, notPower]) => {
      expect(spare).toBeGreaterThanOrEqual(0);
      // Filesystems may round up to a block, and to a table of blocks.
      expect(spare).toBeLessThan(64 * 1024);
      expect([empty, notPower]).toEqual([0, 0]);
    },
  ),

  check<number[]>(
    "sizes beyond 4 GiB are told",
    `tell([os.stat(root + b"/files/huge").st_size, os.stat(root + b"/files/hole").st_size])`,
    (told) => expect(told).toEqual([hugeBytes, 1_000_000]),
  ),

  check<unknown[]>(
    "reading and listing change no time",
    `
    names = (b"files/small", b"types", b"symlinks/toFile", b"")
    def times(): return [[s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns] for s in (os.lstat(root + b"/" + n) for n in names)]
    before = times()
    open(root + b"/files/small", "rb").read()
    os.listdir(root + b"/types"), os.listdir(root), os.readlink(root + b"/symlinks/toFile")
    tell([before == times(), len(before)])`,
    (told) => expect(told).toEqual([true, 4]),
  ),

  check<Record<string, number | boolean>>(
    "statfs has sizes that are not zero and not more free than there is, and says read-only",
    `
    s = os.statvfs(root + b"/types/file")
    with opened(root + b"/files") as fd: f = os.fstatvfs(fd)
    tell(dict(read_only=bool(s.f_flag & os.ST_RDONLY), names=s.f_namemax, sizes=s.f_blocks > 0 and s.f_bsize > 0 and s.f_files > 0,
      free=s.f_bavail <= s.f_bfree <= s.f_blocks and s.f_ffree <= s.f_files, power=s.f_frsize & (s.f_frsize - 1),
      same=(s.f_blocks, s.f_files, s.f_bsize) == (f.f_blocks, f.f_files, f.f_bsize)))`,
    (told) =>
      expect(told).toEqual({ read_only: true, names: 255, sizes: true, free: true, power: 0, same: true }),
  ),
];
