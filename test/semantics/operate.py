# Runs a list of operations on the tree at `root` and tells their answers: a value, or the name of an errno. Loaded behind posix-calls.py.
import functools

# FIFOs must not wait for their other end.
SAFE = os.O_NONBLOCK | os.O_NOCTTY


def attributes(s):
    return dict(mode=oct(s.st_mode), nlink=s.st_nlink, uid=s.st_uid, gid=s.st_gid, size=s.st_size, mtime=str(s.st_mtime_ns), atime=str(s.st_atime_ns), ctime=str(s.st_ctime_ns),
                ino=s.st_ino, blocks=s.st_blocks, blksize=s.st_blksize, rdev=s.st_rdev)


def entry(top, found):
    """What is above the root is not part of the tree."""
    name, ino, kind, _ = found
    return dict(name=name, ino=None if (name, os.path.realpath(top)) == (b"..", root) else ino, kind=kind)


def list_directory(path, op):
    return [entry(path, e) for e in listed(path, op["size"])]


def resume(path, op):
    """Reads up to some entry, and from there on with a new descriptor."""
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        first = getdents(fd, op["size"])
        kept = first[: 1 + op["at"] % len(first)]
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.lseek(fd, kept[-1][3], os.SEEK_SET)
        rest = getdents_all(fd, op["size"])
    return [entry(path, e) for e in kept + rest]


def pread(path, op):
    # O_DIRECT asks the filesystem for exactly these bytes; without it, dropped pages are asked for again.
    with opened(path, os.O_RDONLY | SAFE | (os.O_DIRECT if op["how"] == "direct" else 0)) as fd:
        if op["how"] == "cold":
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        data = os.pread(fd, op["length"], op["offset"])
        return [len(data), sha(data)[:16]]


def open_file(path, op):
    with opened(path, op["flags"] | SAFE) as fd:
        return oct(os.fstat(fd).st_mode)


def open_beneath(path, op):
    with opened(root, os.O_PATH) as top:
        fd = openat2(top, path[len(root) :].lstrip(b"/") or b".", os.O_PATH | op["flags"], op["resolve"])
        s = os.fstat(fd)
        os.close(fd)
        return [oct(s.st_mode), s.st_size if not stat.S_ISDIR(s.st_mode) else 0]


def map_file(path, op):
    with opened(path, os.O_RDONLY | SAFE) as fd:
        size = os.fstat(fd).st_size
        if not stat.S_ISREG(os.fstat(fd).st_mode) or size == 0:
            return "nothing to map"
        with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as m:
            at = op["offset"] % size
            return sha(m[at : at + op["length"]])[:16]


def seek(path, op):
    with opened(path, os.O_RDONLY | SAFE) as fd:
        # Where a directory ends, each filesystem has its own idea of.
        return "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else os.lseek(fd, op["offset"], op["whence"])


def statfs(path, op):
    s = os.statvfs(path)
    return [s.f_bsize, s.f_frsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_namemax, s.f_flag & 1]


def access(path, op):
    return as_user(op["uid"], op["gid"], lambda: fault(lambda: libc.access(path, op["mode"]) and checked(-1)))


def read_as(path, op):
    """How far another user gets."""
    def attempt():
        return [fault(lambda: os.stat(path)), fault(lambda: os.listdir(path)), fault(lambda: os.close(os.open(path, os.O_RDONLY | SAFE)))]
    return as_user(op["uid"], op["gid"], attempt)


CHANGES = dict(
    chmod=lambda p: os.chmod(p, 0o777),
    chown=lambda p: os.chown(p, 1, 1),
    truncate=lambda p: os.truncate(p, 1),
    unlink=os.unlink,
    rmdir=os.rmdir,
    mkdir=os.mkdir,
    symlink=lambda p: os.symlink("x", p),
    mkfifo=os.mkfifo,
    rename=lambda p: os.rename(p, p + b".new"),
    link=lambda p: os.link(p, p + b".new"),
    utime=os.utime,
    setxattr=lambda p: os.setxattr(p, "user.new", b"v"),
)

OPERATIONS = dict(
    stat=lambda path, op: attributes(os.stat(path)),
    lstat=lambda path, op: attributes(os.lstat(path)),
    statx=lambda path, op: statx(AT_FDCWD, path, op["flags"], op["mask"]),
    readlink=lambda path, op: os.readlink(path),
    list=list_directory,
    resume=resume,
    pread=pread,
    open=open_file,
    openat2=open_beneath,
    mmap=map_file,
    seek=seek,
    statfs=statfs,
    access=access,
    readAs=read_as,
    getxattr=lambda path, op: getxattr(path, raw(op["name"]), op["size"], "getxattr" if op["follow"] else "lgetxattr"),
    listxattr=lambda path, op: listxattr(path, op["size"], "listxattr" if op["follow"] else "llistxattr"),
    change=lambda path, op: CHANGES[op["call"]](path),
)


def leads_outside(path, op):
    """Symbolic links may lead out of the tree, and what is there is not compared."""
    looked_at = os.path.dirname(path) if op["do"] in ("lstat", "readlink") and path != root else path
    return os.path.commonpath([os.path.realpath(looked_at), root]) != root


def operate(op):
    path = root + raw("/" + op["path"]) if op["path"] else root
    if leads_outside(path, op):
        return "outside"
    return outcome(functools.partial(OPERATIONS[op["do"]], path, op))


tell([operate(op) for op in args[1]])
