import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";

/** What each Python expression fails with; `p` of a name is its path. */
const faultsSource = `
def p(name): return root + b"/" + name.encode()
def answers(expressions): return [fault(lambda: eval(e, {**globals(), "p": p, "root": root})) for e in expressions]
tell(dict(zip(args[1], answers(args[1]))))`;

function refusals(claim: string, errno: string, expressions: readonly string[]): PosixCheck {
  return check<Record<string, string>>(
    claim,
    faultsSource,
    (told) => expect(told).toEqual(Object.fromEntries(expressions.map((expression) => [expression, errno]))),
    { args: [expressions] },
  );
}

export const changeChecks: readonly PosixCheck[] = [
  refusals("opening for writing, making and cutting is EROFS", "EROFS", [
    'os.open(p("files/plain"), os.O_RDWR)',
    'os.open(p("files/plain"), os.O_WRONLY)',
    'os.open(p("files/plain"), os.O_WRONLY | os.O_APPEND)',
    'os.open(p("files/plain"), os.O_RDONLY | os.O_TRUNC)',
    'os.open(p("files/plain"), os.O_WRONLY | os.O_TRUNC | os.O_CREAT)',
    'os.open(p("symlinks/toFile"), os.O_RDWR)',
    'os.open(p("new"), os.O_RDWR | os.O_CREAT)',
    'os.open(p("new"), os.O_RDONLY | os.O_CREAT)',
    'os.open(p("new"), os.O_RDWR | os.O_CREAT | os.O_EXCL)',
    'os.open(p("new"), os.O_WRONLY | os.O_CREAT)',
    'os.open(p("empty"), os.O_RDWR | os.O_TMPFILE)',
    'os.truncate(p("files/plain"), 0)',
    'os.truncate(p("files/plain"), 10_000_000)',
  ]),

  refusals("making, linking, renaming and removing names is EROFS", "EROFS", [
    'os.mkdir(p("new"))',
    'os.rmdir(p("empty"))',
    'os.rmdir(p("types"))',
    'os.rmdir(p("missing"))',
    'os.unlink(p("files/plain"))',
    'os.unlink(p("missing"))',
    'os.symlink("x", p("new"))',
    'os.link(p("files/plain"), p("new"))',
    'os.link(p("symlinks/toFile"), p("new"), follow_symlinks=False)',
    'os.mkfifo(p("new"))',
    'os.mknod(p("new"), 0o600 | stat.S_IFREG)',
    'os.mknod(p("new"), 0o600 | stat.S_IFCHR, os.makedev(1, 3))',
    "(os.chdir(root), socket.socket(socket.AF_UNIX).bind('new'))",
    'os.rename(p("files/plain"), p("files/new"))',
    'os.rename(p("files/plain"), p("files/small"))',
    'os.rename(p("files"), p("new"))',
    'checked(libc.renameat2(-100, p("files/plain"), -100, p("files/small"), 2))',
    'checked(libc.renameat2(-100, p("files/plain"), -100, p("files/new"), 1))',
  ]),

  refusals("changing mode, owner, times and attributes is EROFS, by path and by descriptor", "EROFS", [
    'os.chmod(p("files/plain"), 0o600)',
    'os.chmod(p("types"), 0o700)',
    "os.chmod(root, 0o700)",
    'os.chmod(p("types/null"), 0o700)',
    'os.chown(p("files/plain"), 1, 1)',
    'os.chown(p("symlinks/toFile"), 1, 1, follow_symlinks=False)',
    'os.utime(p("files/plain"))',
    'os.utime(p("types"), (1, 1))',
    'os.utime(p("symlinks/toFile"), (1, 1), follow_symlinks=False)',
    'os.setxattr(p("xattrs/file"), "user.new", b"v")',
    'os.setxattr(p("xattrs/file"), "user.binary", b"v", os.XATTR_REPLACE)',
    'os.removexattr(p("xattrs/file"), "user.binary")',
    'os.setxattr(p("xattrs/link"), "trusted.link", b"v", follow_symlinks=False)',
    'os.fchmod(os.open(p("files/plain"), os.O_RDONLY), 0o600)',
    'os.fchown(os.open(p("types"), os.O_RDONLY), 1, 1)',
    'os.utime(os.open(p("files/plain"), os.O_RDONLY))',
    'os.setxattr(os.open(p("files/plain"), os.O_RDONLY), "user.new", b"v")',
  ]),

  refusals("access asks for writing, even root's, are EROFS but for what is not stored here", "EROFS", [
    'libc.access(p("files/plain"), os.W_OK) and checked(-1)',
    'libc.access(p("types"), os.W_OK) and checked(-1)',
    'libc.access(p("files/plain"), os.R_OK | os.W_OK) and checked(-1)',
    "libc.access(root, os.W_OK) and checked(-1)",
    'libc.access(p("symlinks/toFile"), os.W_OK) and checked(-1)',
  ]),

  refusals("what is there already is EEXIST all the same", "EEXIST", [
    'os.open(p("files/plain"), os.O_RDWR | os.O_CREAT | os.O_EXCL)',
    'os.open(p("symlinks/dangling"), os.O_RDWR | os.O_CREAT | os.O_EXCL)',
    'os.mkdir(p("types"))',
    'os.mkdir(p("files/plain"))',
    "os.mkdir(root)",
    'os.symlink("x", p("files/plain"))',
    'os.link(p("files/plain"), p("files/small"))',
    'os.mkfifo(p("types/fifo"))',
  ]),

  refusals("descriptors for reading only do not write", "EBADF", [
    'os.write(os.open(p("files/plain"), os.O_RDONLY), b"x")',
    'os.pwrite(os.open(p("files/plain"), os.O_RDONLY), b"x", 0)',
    'os.write(os.open(p("files/plain"), os.O_RDONLY | os.O_APPEND), b"x")',
    'os.posix_fallocate(os.open(p("files/plain"), os.O_RDONLY), 0, 10)',
  ]),

  refusals("operations meant for other types fail as anywhere", "ENOTDIR", [
    'os.rmdir(p("files/plain/x"))',
    'os.mkdir(p("files/plain/x"))',
    'os.open(p("files/plain/x"), os.O_WRONLY | os.O_CREAT)',
    'os.rename(p("files/plain/x"), p("new"))',
  ]),

  refusals("ways through directories that are not there are ENOENT", "ENOENT", [
    'os.mkdir(p("missing/x"))',
    'os.unlink(p("missing/x"))',
    'os.open(p("missing/x"), os.O_WRONLY | os.O_CREAT)',
    'os.rename(p("missing/x"), p("new"))',
    'os.chmod(p("missing"), 0o600)',
    'os.truncate(p("missing"), 0)',
    'os.open(p("symlinks/dangling"), os.O_WRONLY | os.O_CREAT)',
  ]),

  refusals("what changes nothing succeeds: syncing, and making a file that is there", "ok", [
    'os.fsync(os.open(p("files/plain"), os.O_RDONLY))',
    'os.fdatasync(os.open(p("files/plain"), os.O_RDONLY))',
    'os.fsync(os.open(p("types"), os.O_RDONLY))',
    'checked(libc.syncfs(os.open(p("types"), os.O_RDONLY)))',
    'os.open(p("files/plain"), os.O_RDONLY | os.O_CREAT)',
    'os.open(p("types/null"), os.O_WRONLY)',
    'libc.access(p("types/null"), os.W_OK) and checked(-1)',
    'libc.access(p("types/fifo"), os.W_OK) and checked(-1)',
  ]),

  check<boolean>(
    "after all that was refused, nothing has changed",
    `
    def facts(path):
        s = os.lstat(path)
        return [s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns, s.st_size, s.st_nlink, fault(lambda: os.lstat(root + b"/new"))]
    names = (b"files/plain", b"types", b"xattrs/file", b"empty", b"", b"symlinks/toFile")
    before = [facts(root + b"/" + n) for n in names]
    for call in (lambda p: os.chmod(p, 0o111), lambda p: os.chown(p, 9, 9), lambda p: os.utime(p, (9, 9)), lambda p: os.truncate(p, 1), os.unlink, os.rmdir):
        for n in names: fault(lambda: call(root + b"/" + n))
    tell([before == [facts(root + b"/" + n) for n in names], before[0][-1]])`,
    (told) => expect(told).toEqual([true, "ENOENT"]),
  ),
];
