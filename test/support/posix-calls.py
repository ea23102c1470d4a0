"""Looks at files for the tests: a server that answers each request in a fork, and the system calls that Python has no words for.

Requests are lines of JSON {id, source, args}; answers are lines {id, value} or {id, error}. A request is a Python program with the names of
this file at hand, `args` (its arguments) and `root` (the first, as bytes); it says its value with `tell`. A fork for each: its open
files, user and signals are gone with it, and a fork is thirty times faster than a new interpreter.

Bytes become JSON as text of one character a byte, on the way in (`raw`) and out.
"""
import contextlib, ctypes, errno, fcntl, hashlib, json, mmap, os, select, signal, socket, stat, struct, sys, textwrap, threading, traceback

# A request that takes longer than this hangs; the fork ends, and the test says so instead of waiting for its own end.
REQUEST_SECONDS = 50

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.fdopendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
for f in ("readdir", "telldir", "rewinddir", "closedir"):
    getattr(libc, f).argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
for f in ("getdents64", "syscall", "getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "readahead", "copy_file_range", "readlink"):
    getattr(libc, f).restype = ctypes.c_ssize_t


# Two numbers have two names each.
errno_names = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EAGAIN: "EAGAIN"}


def raw(text):
    return text.encode("latin1")


def checked(result):
    """What a call of libc gave; its errno as OSError."""
    if result is None or result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def outcome(call):
    """What `call` returns, None as "ok"; where it fails, the name of its errno."""
    try:
        value = call()
        return "ok" if value is None else value
    except OSError as error:
        return errno_names[error.errno]


def fault(call):
    """"ok", or the name of the errno that `call` fails with."""
    return outcome(lambda: (call(), None)[1])


@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY, **where):
    fd = os.open(path, flags, **where)
    try:
        yield fd
    finally:
        os.close(fd)


def entries(buffer, length):
    """struct linux_dirent64: ino, off, reclen, type, name."""
    at = 0
    while at < length:
        ino, off, reclen, kind = struct.unpack_from("QqHB", buffer, at)
        name = buffer.raw[at + 19 : at + reclen].split(b"\0", 1)[0]
        yield (name, ino, kind, off)
        at += reclen


def getdents(fd, size):
    """One getdents64 with a buffer of `size` bytes: tuples of name, inode number, type, offset behind it."""
    buffer = ctypes.create_string_buffer(size)
    return list(entries(buffer, checked(libc.getdents64(fd, buffer, ctypes.c_size_t(size)))))


def getdents_all(fd, size):
    found = []
    while some := getdents(fd, size):
        found += some
    return found


def listed(path, size=32768):
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        return getdents_all(fd, size)


def readdir(stream):
    """The next name, or None at the end."""
    entry = libc.readdir(stream)
    return ctypes.string_at(entry + 19) if entry else None


def opendir(path):
    return checked(libc.opendir(path))


RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16


def openat2(fd, path, flags=os.O_RDONLY, resolve=0):
    # 437 on every architecture; struct open_how: flags, mode, resolve.
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return checked(libc.syscall(437, fd, path, how, ctypes.c_size_t(len(how))))


AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC = -100, 0x1000, 0x100, 0x2000, 0x4000


def statx(fd, path, flags=AT_SYMLINK_NOFOLLOW, mask=0x7FF):
    """struct statx of linux/stat.h: what a file's base stats are, and which of them were filled."""
    buffer = ctypes.create_string_buffer(256)
    checked(libc.statx(fd, path, flags, mask, buffer))
    filled, blksize, attributes, nlink, uid, gid, mode = struct.unpack_from("IIQIIIH", buffer, 0)
    ino, size, blocks = struct.unpack_from("QQQ", buffer, 32)
    seconds, nanoseconds = struct.unpack_from("qI", buffer, 112)
    return dict(mask=filled, blksize=blksize, nlink=nlink, uid=uid, gid=gid, mode=mode, ino=ino, size=size, blocks=blocks,
                mtime=seconds * 10**9 + nanoseconds, rdev=list(struct.unpack_from("II", buffer, 128)))


def getxattr(path, name, size, call="getxattr"):
    """What the system call gives with a buffer of that size: the value's bytes, or with size 0 their number."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    length = checked(getattr(libc, call)(path, name, buffer, ctypes.c_size_t(size)))
    return buffer.raw[:length] if size else length


def listxattr(path, size, call="listxattr"):
    buffer = ctypes.create_string_buffer(max(size, 1))
    length = checked(getattr(libc, call)(path, buffer, ctypes.c_size_t(size)))
    return sorted(buffer.raw[:length].split(b"\0")[:-1]) if size else length


def in_child(call):
    """Runs `call` in a process of its own: its value, or {"signal": number}."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        status = 0
        try:
            with os.fdopen(writer, "wb") as out:
                out.write(json.dumps(call(), default=shown).encode())
        except BaseException:
            traceback.print_exc()
            status = 1
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        text = answers.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    if status != 0:
        raise RuntimeError("the child failed")
    return json.loads(text)


def as_user(uid, gid, call, groups=()):
    """`call` by a user without privileges."""
    def become():
        os.setgroups(list(groups))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        return call()
    return in_child(become)


def all_at_once(calls):
    """Runs each call in a child, all of them at the same time; their values in order."""
    results = [None] * len(calls)

    def one(i):
        results[i] = in_child(calls[i])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def sha(data):
    return hashlib.sha256(data).hexdigest()


def shown(value):
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("latin1")
    raise TypeError(f"{type(value)} is no JSON")


def answer(request):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        reply = {"error": "the program told nothing"}

        def tell(value):
            reply.pop("error", None)
            reply["value"] = value

        try:
            signal.alarm(REQUEST_SECONDS)
            # Not from the server's input: a program that reads would take the next request.
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            args = request["args"]
            root = os.fsencode(args[0]) if args else b""
            names = {**globals(), "args": args, "root": root, "tell": tell}
            exec(compile(textwrap.dedent(request["source"]), "program", "exec"), names)
            text = json.dumps(reply, default=shown)
        except BaseException:
            text = json.dumps({"error": traceback.format_exc()})
        with os.fdopen(writer, "wb") as out:
            out.write(text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        text = answers.read()
    status = os.waitpid(pid, 0)[1]
    if text:
        return json.loads(text)
    return {"error": f"the program ended with {os.waitstatus_to_exitcode(status)} and told nothing"}


if __name__ == "__main__":
    os.umask(0)
    for line in iter(sys.stdin.buffer.readline, b""):
        request = json.loads(line)
        print(json.dumps({"id": request["id"], **answer(request)}), flush=True)
