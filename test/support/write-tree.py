"""Makes a tree of files out of its description with ordinary system calls: the plain filesystem that mounts are compared with.

Usage: write-tree.py DIR LAYER < JSON, a list of {path, type, mode, uid, gid, time (seconds, nanoseconds), ...} as written by write-tree.ts, parents
before children. Bytes of files are extents of the file LAYER. Paths are text of one character a byte.
"""
import json, os, stat, sys

top, layer = os.fsencode(sys.argv[1]), os.open(sys.argv[2], os.O_RDONLY)
kinds = {"character": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}


def raw(text):
    return text.encode("latin1")


def make(path, node):
    kind = node["type"]
    if kind == "directory":
        if node["path"]:
            os.mkdir(path)
    elif kind == "symlink":
        os.symlink(raw(node["target"]), path)
    elif kind == "file":
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        for at, start, length in node["extents"]:
            while length > 0:
                data = os.pread(layer, min(length, 1 << 20), start)
                if not data:
                    sys.exit("an extent is behind the layer's end")
                os.pwrite(fd, data, at)
                at, start, length = at + len(data), start + len(data), length - len(data)
        os.ftruncate(fd, node["size"])
        os.close(fd)
    else:
        os.mknod(path, kinds[kind] | 0o600, os.makedev(*node["device"]))


def describe(path, node):
    """Owner first: changing it takes setuid bits and capabilities away. Times last."""
    os.chown(path, node["uid"], node["gid"], follow_symlinks=False)
    if node["type"] != "symlink":
        os.chmod(path, node["mode"])
    for name, value in node["xattrs"]:
        os.setxattr(path, raw(name), raw(value), follow_symlinks=False)
    seconds, nanoseconds = node["time"]
    time = seconds * 10**9 + nanoseconds
    os.utime(path, ns=(time, time), follow_symlinks=False)


nodes = json.load(sys.stdin.buffer)
for node in nodes:
    path = os.path.join(top, raw(node["path"]))
    if "linkTo" in node:
        os.link(os.path.join(top, raw(node["linkTo"])), path, follow_symlinks=False)
    else:
        make(path, node)
        if node["type"] != "directory":
            describe(path, node)
# Children change a directory's times, and may not be made in one that is closed.
for node in reversed(nodes):
    if node.get("type") == "directory":
        describe(os.path.join(top, raw(node["path"])), node)
