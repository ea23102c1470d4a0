import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";

export const openingChecks: readonly PosixCheck[] = [
  check<Record<string, string>>(
    "open's flags do what they do anywhere",
    `
    cases = {
      "O_DIRECTORY on a file": ("files/plain", os.O_DIRECTORY),
      "O_DIRECTORY on a FIFO": ("types/fifo", os.O_DIRECTORY),
      "O_DIRECTORY on a directory": ("types", os.O_DIRECTORY),
      "O_DIRECTORY on a link to one": ("symlinks/toDirectory", os.O_DIRECTORY),
      "O_DIRECTORY on a link to a file": ("symlinks/toFile", os.O_DIRECTORY),
      "O_RDWR on a directory": ("types", os.O_RDWR),
      "O_WRONLY on the root": ("", os.O_WRONLY),
      "O_CREAT on a directory": ("types", os.O_CREAT),
      "O_CREAT and O_DIRECTORY": ("new", os.O_CREAT | os.O_DIRECTORY),
      "O_TRUNC on a directory": ("types", os.O_TRUNC),
      "O_APPEND": ("files/plain", os.O_APPEND),
      "O_NONBLOCK": ("files/plain", os.O_NONBLOCK),
      "O_SYNC": ("files/plain", os.O_SYNC),
      "O_NOATIME by root": ("files/plain", os.O_NOATIME),
      "O_PATH on a FIFO": ("types/fifo", os.O_PATH),
      "O_PATH on a device that is not there": ("types/unknown", os.O_PATH),
      "O_PATH on a file that nobody may read": ("types/nobody", os.O_PATH),
      "a device that is not there": ("types/unknown", os.O_RDONLY),
      "a trailing slash": ("files/plain/", os.O_RDONLY),
      "O_CREAT with a trailing slash": ("new/", os.O_CREAT),
    }
    tell({what: fault(lambda: os.open(root + b"/" + name.encode(), flags)) for what, (name, flags) in cases.items()})`,
    (told) =>
      expect(told).toEqual({
        "O_DIRECTORY on a file": "ENOTDIR",
        "O_DIRECTORY on a FIFO": "ENOTDIR",
        "O_DIRECTORY on a directory": "ok",
        "O_DIRECTORY on a link to one": "ok",
        "O_DIRECTORY on a link to a file": "ENOTDIR",
        "O_RDWR on a directory": "EISDIR",
        "O_WRONLY on the root": "EISDIR",
        "O_CREAT on a directory": "EISDIR",
        // Since Linux 6.4 (43b450632676).
        "O_CREAT and O_DIRECTORY": "EINVAL",
        "O_TRUNC on a directory": "EISDIR",
        O_APPEND: "ok",
        O_NONBLOCK: "ok",
        O_SYNC: "ok",
        "O_NOATIME by root": "ok",
        "O_PATH on a FIFO": "ok",
        "O_PATH on a device that is not there": "ok",
        "O_PATH on a file that nobody may read": "ok",
        "a device that is not there": "ENXIO",
        "a trailing slash": "ENOTDIR",
        "O_CREAT with a trailing slash": "EISDIR",
      }),
  ),

  check<unknown[]>(
    "a descriptor of O_PATH names a file and reads nothing",
    `
    with opened(root + b"/files/small", os.O_PATH) as fd:
        again = os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY)
        tell([fault(lambda: os.read(fd, 1)), fault(lambda: os.pread(fd, 1, 0)), fault(lambda: fcntl.flock(fd, fcntl.LOCK_SH)), fault(lambda: os.getxattr(fd, "user.x")), len(os.read(again, 1000))])`,
    (told) => expect(told).toEqual(["EBADF", "EBADF", "EBADF", "EBADF", 100]),
  ),

  check<unknown[]>(
    "one file can be open a thousand times",
    `
    fds = [os.open(root + b"/files/small", os.O_RDONLY) for _ in range(1000)]
    tell([len({sha(os.pread(fd, 100, 0)) for fd in fds}), len({os.fstat(fd).st_ino for fd in fds})])`,
    (told) => expect(told).toEqual([1, 1]),
  ),

  check<unknown[]>(
    "other users read and list what its mode lets them, by owner, group, supplementary group and the rest",
    `
    def may(name): return lambda: fault(lambda: os.read(os.open(root + b"/permissions/" + name, os.O_RDONLY), 10))
    def by(uid, gid, groups=()): return [as_user(uid, gid, may(n), groups) for n in (b"secret", b"group", b"own", b"shut")]
    tell({"nobody": by(65534, 65534), "group": by(65534, 4242), "supplementary": by(65534, 65534, [1, 4242]), "owner": by(1234, 1234), "root": [may(n)() for n in (b"secret", b"group", b"own", b"shut")]})`,
    (told) =>
      expect(told).toEqual({
        nobody: ["EACCES", "EACCES", "EACCES", "ok"],
        group: ["EACCES", "ok", "EACCES", "ok"],
        supplementary: ["EACCES", "ok", "EACCES", "ok"],
        // An owner without a right does not get it as one of the rest.
        owner: ["EACCES", "EACCES", "ok", "EACCES"],
        root: ["ok", "ok", "ok", "ok"],
      }),
  ),

  check<unknown[]>(
    "a directory is listed with r and passed with x, each by itself",
    `
    def may(name):
        d = root + b"/permissions/" + name
        return lambda: [fault(lambda: os.listdir(d)), fault(lambda: os.stat(d + b"/inside")), fault(lambda: os.stat(d + b"/missing")), fault(lambda: os.stat(d))]
    tell([as_user(65534, 65534, may(n)) for n in (b"closed", b"pass", b"look")])`,
    (told) =>
      expect(told).toEqual([
        ["EACCES", "EACCES", "EACCES", "ok"],
        ["EACCES", "ok", "ENOENT", "ok"],
        ["ok", "EACCES", "EACCES", "ok"],
      ]),
  ),

  check<unknown[]>(
    "access answers for the real user, faccessat with AT_EACCESS for the effective one",
    `
    def ask(name): return [fault(lambda: libc.access(root + b"/" + name, how) and checked(-1)) for how in (os.F_OK, os.R_OK, os.X_OK, os.R_OK | os.X_OK)]
    names = (b"permissions/secret", b"permissions/group", b"permissions/closed", b"permissions/pass", b"permissions/look", b"bin/id", b"bin/plain", b"types/nobody")
    def effective():
        os.setresuid(0, 65534, 0)
        path = root + b"/permissions/secret"
        return [os.access(path, os.R_OK), os.access(path, os.R_OK, effective_ids=True)]
    tell([as_user(65534, 65534, lambda: [ask(n) for n in names]), [ask(n) for n in names], in_child(effective)])`,
    (told) =>
      expect(told).toEqual([
        [
          ["ok", "EACCES", "EACCES", "EACCES"],
          ["ok", "EACCES", "EACCES", "EACCES"],
          ["ok", "EACCES", "EACCES", "EACCES"],
          ["ok", "EACCES", "ok", "EACCES"],
          ["ok", "ok", "EACCES", "EACCES"],
          ["ok", "ok", "ok", "ok"],
          ["ok", "ok", "EACCES", "EACCES"],
          ["ok", "EACCES", "EACCES", "EACCES"],
        ],
        [
          ["ok", "ok", "EACCES", "EACCES"],
          ["ok", "ok", "EACCES", "EACCES"],
          ["ok", "ok", "ok", "ok"],
          ["ok", "ok", "ok", "ok"],
          ["ok", "ok", "ok", "ok"],
          ["ok", "ok", "ok", "ok"],
          // Root reads everything, and runs what anybody may run.
          ["ok", "ok", "EACCES", "EACCES"],
          ["ok", "ok", "EACCES", "EACCES"],
        ],
        [true, false],
      ]),
  ),

  check<unknown[]>(
    "O_NOATIME is for the owner and root only",
    `tell([as_user(uid, uid, lambda: fault(lambda: os.open(root + b"/permissions/own", os.O_RDONLY | os.O_NOATIME))) for uid in (1234,)]
      + [as_user(65534, 65534, lambda: fault(lambda: os.open(root + b"/files/small", os.O_RDONLY | os.O_NOATIME)))])`,
    (told) => expect(told).toEqual(["ok", "EPERM"]),
  ),

  check<unknown[]>(
    "other users get the same refusals: EACCES where they may not, EROFS where they might",
    `
    def refused():
        r = root + b"/"
        return [fault(lambda: os.open(r + b"files/plain", os.O_RDWR)), fault(lambda: os.mkdir(r + b"new")), fault(lambda: os.unlink(r + b"files/plain")),
          fault(lambda: os.chmod(r + b"files/plain", 0o777)), fault(lambda: os.mkdir(r + b"permissions/closed/new")), fault(lambda: os.mkdir(r + b"types/sticky/new"))]
    tell(as_user(65534, 65534, refused))`,
    (told) => expect(told).toEqual(["EROFS", "EROFS", "EROFS", "EROFS", "EACCES", "EROFS"]),
  ),
];
