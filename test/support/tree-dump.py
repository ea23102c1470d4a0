"""Prints what is under a directory, one JSON object a line; see tree-dump.ts.

A process of its own: whoever serves a mount must not read it. Bytes of names, targets and xattr values become the
characters U+0000 to U+00FF. Usage: tree-dump.py DIR [--no-content]
"""

import errno
import hashlib
import json
import os
import stat
import sys

TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def text(data):
    return os.fsencode(data).decode("latin1")


def sha256_of(path):
    with open(path, "rb", buffering=0) as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def xattr_names(path):
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        # A filesystem without xattrs: a skim mount of an image that has none is one.
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise


def link_target(path):
    try:
        return text(os.readlink(path))
    except OSError as error:
        # fuse-native cannot pass a target that is not UTF-8 on (SEMANTICS.md).
        if error.errno == errno.EILSEQ:
            return "(EILSEQ)"
        raise


def describe(path, name, with_content):
    found = os.lstat(path)
    kind = TYPES[stat.S_IFMT(found.st_mode)]
    device = kind in ("character", "block")
    xattrs = sorted(
        [text(key), os.getxattr(path, key, follow_symlinks=False).decode("latin1")]
        for key in xattr_names(path)
    )
    return {
        "path": text(name),
        "type": kind,
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "size": found.st_size if kind in ("file", "symlink") else 0,
        "mtimeSec": found.st_mtime_ns // 10**9,
        "mtimeNsec": found.st_mtime_ns % 10**9,
        "nlink": found.st_nlink,
        "inode": f"{found.st_dev}:{found.st_ino}",
        "linkTarget": link_target(path) if kind == "symlink" else "",
        "device": f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" if device else "",
        "xattrs": xattrs,
        "sha256": sha256_of(path) if kind == "file" and with_content else "",
    }


def main():
    root = os.fsencode(sys.argv[1])
    with_content = "--no-content" not in sys.argv[2:]
    waiting = [b""]
    while waiting:
        name = waiting.pop()
        path = os.path.join(root, name) if name else root
        line = describe(path, name, with_content)
        if line["type"] == "directory":
            waiting.extend(os.path.join(name, child) for child in os.listdir(path))
        print(json.dumps(line))


main()
