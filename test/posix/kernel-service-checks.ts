import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";

const handleSource = `
def handle(path):
    # struct file_handle: bytes, type, then the handle, of at most 128 bytes (MAX_HANDLE_SZ).
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128), 136)
    checked(libc.name_to_handle_at(AT_FDCWD, path, buffer, ctypes.byref(ctypes.c_int()), 0))
    return buffer
`;

/** What the kernel does with any file: locks, handles, notifications. */
export const kernelServiceChecks: readonly PosixCheck[] = [
  check<unknown[]>(
    "record locks for reading are granted, and ones for writing need a descriptor for writing",
    `
    def lock(fd, kind): return fault(lambda: fcntl.fcntl(fd, fcntl.F_SETLK, struct.pack("hhqqi", kind, 0, 0, 0, 0)))
    def holder(fd):
        # struct flock: type, whence, start, length, pid.
        return struct.unpack_from("h", fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)))[0]
    with opened(root + b"/files/plain") as fd:
        before = in_child(lambda: holder(fd))
        granted = [lock(fd, fcntl.F_RDLCK), lock(fd, fcntl.F_WRLCK)]
        other = in_child(lambda: [holder(os.open(root + b"/files/plain", os.O_RDONLY)), lock(os.open(root + b"/files/plain", os.O_RDONLY), fcntl.F_RDLCK)])
        released = [lock(fd, fcntl.F_UNLCK), in_child(lambda: holder(fd))]
    tell([before == fcntl.F_UNLCK, granted, [other[0] == fcntl.F_RDLCK, other[1]], [released[0], released[1] == fcntl.F_UNLCK]])`,
    (told) => expect(told).toEqual([true, ["ok", "EBADF"], [true, "ok"], ["ok", true]]),
  ),

  check<unknown[]>(
    "locks of open file descriptions are granted for reading",
    `
    F_OFD_SETLK = 37
    def lock(fd, kind): return fault(lambda: fcntl.fcntl(fd, F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, 10, 10, 0)))
    with opened(root + b"/files/plain") as a, opened(root + b"/files/plain") as b:
        tell([lock(a, fcntl.F_RDLCK), lock(b, fcntl.F_RDLCK), lock(b, fcntl.F_WRLCK), lock(a, fcntl.F_UNLCK)])`,
    (told) => expect(told).toEqual(["ok", "ok", "EBADF", "ok"]),
  ),

  check<unknown[]>(
    "flock gives a file to one, or shares it, on files and directories",
    `
    def flock(fd, how): return fault(lambda: fcntl.flock(fd, how | fcntl.LOCK_NB))
    def trial(name):
        with opened(root + name) as a, opened(root + name) as b:
            return [flock(a, fcntl.LOCK_EX), flock(b, fcntl.LOCK_SH), in_child(lambda: flock(os.open(root + name, os.O_RDONLY), fcntl.LOCK_EX)), flock(a, fcntl.LOCK_SH), flock(b, fcntl.LOCK_SH), flock(b, fcntl.LOCK_EX),
              flock(a, fcntl.LOCK_UN), flock(b, fcntl.LOCK_EX)]
    tell([trial(b"/files/plain"), trial(b"/types")])`,
    (told) =>
      expect(told).toEqual(new Array(2).fill(["ok", "EAGAIN", "EAGAIN", "ok", "ok", "EAGAIN", "ok", "ok"])),
  ),

  check<unknown[]>(
    "inotify watches files and directories and tells who opens, reads and closes",
    `
    def watch(path, mask):
        fd = checked(libc.inotify_init1(os.O_NONBLOCK))
        checked(libc.inotify_add_watch(fd, path, mask))
        return fd
    def events(fd):
        try: data = os.read(fd, 65536)
        except BlockingIOError: return []
        found, at = [], 0
        while at < len(data):
            _, mask, _, length = struct.unpack_from("iIII", data, at)
            found.append([mask & 0xfff, data[at + 16 : at + 16 + length].rstrip(b"\\0")])
            at += 16 + length
        return found
    IN_ACCESS, IN_CLOSE_NOWRITE, IN_OPEN = 1, 16, 32
    of_file, of_directory = watch(root + b"/files/small", 0xfff), watch(root + b"/files", 0xfff)
    with opened(root + b"/files/small") as fd: os.read(fd, 10)
    tell([[e[0] for e in events(of_file)], [e for e in events(of_directory) if e[1]]])`,
    (told) =>
      expect(told).toEqual([
        [32, 1, 16],
        [
          [32, "small"],
          [1, "small"],
          [16, "small"],
        ],
      ]),
  ),

  check<unknown[]>(
    "a file handle, where there are any, leads back to its file",
    `${handleSource}
with opened(root) as top:
    def leads_back(name):
        path = root + b"/" + name
        # Open, so that the inode is known to the kernel: filesystems need not find others by number.
        with opened(path, os.O_PATH) as held:
            made = outcome(lambda: handle(path))
            if made == "EOPNOTSUPP": return True
            fd = outcome(lambda: checked(libc.open_by_handle_at(top, made, os.O_RDONLY)))
            return fd if isinstance(fd, str) else os.fstat(fd).st_ino == os.stat(path).st_ino
    tell([leads_back(n) for n in (b"files/plain", b"types", b"types/directory/one", b"links/first", b"")])`,
    (told) => expect(told).toEqual([true, true, true, true, true]),
  ),

  check<unknown[]>(
    "all names of a file have one handle, where there are any, and one set of locks",
    `${handleSource}
one, two = (outcome(lambda: handle(root + b"/links/" + n)) for n in (b"first", b"second"))
with opened(root + b"/links/first") as a, opened(root + b"/links/elsewhere/third") as b:
    locks = [fault(lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)) for fd in (a, b)]
tell([one == two == "EOPNOTSUPP" or one.raw == two.raw, locks])`,
    (told) => expect(told).toEqual([true, ["ok", "EAGAIN"]]),
    { exceptions: { "fuse-native": "libfuse's path interface makes a node of every name" } },
  ),

  check<unknown[]>(
    "a bind mount of a part, and an overlay on the tree, show the same files",
    `
    import subprocess, tempfile
    CLONE_NEWNS = 0x20000
    def inside():
        # In a mount namespace of its own: everything is gone with the process.
        checked(libc.unshare(CLONE_NEWNS))
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "scratch", "/mnt"], check=True)
        for n in ("bind", "upper", "work", "merged"): os.mkdir("/mnt/" + n)
        subprocess.run(["mount", "--bind", root + b"/files", "/mnt/bind"], check=True)
        os.symlink(root, "/mnt/lower")
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", "lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work", "/mnt/merged"], check=True)
        wanted = open(root + b"/files/plain", "rb").read()
        open("/mnt/merged/files/plain", "ab").write(b"more")
        os.rename("/mnt/merged/links/first", "/mnt/merged/links/renamed")
        return [open("/mnt/bind/plain", "rb").read() == wanted, open("/mnt/merged/files/plain", "rb").read() == wanted + b"more", open("/mnt/bind/plain", "rb").read() == wanted,
          sorted(os.listdir("/mnt/merged/links")), os.stat("/mnt/merged/links/renamed").st_uid, sorted(os.listdir(root + b"/links")) == [b"elsewhere", b"first", b"other", b"second"]]
    tell(in_child(inside))`,
    (told) =>
      expect(told).toEqual([true, true, true, ["elsewhere", "other", "renamed", "second"], 70_000, true]),
  ),
];
