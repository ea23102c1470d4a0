"""Makes a tree with everything that layers hold, in directories by what it takes of a tar to hold it; see source-tree.ts.

Usage: source-tree.py DIR, which must be there and be empty. Needs root. The same tree each time, times included.
"""

import os
import random
import sys

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
noise = random.Random(7)
root = os.fsencode(sys.argv[1])
times = {}


def at(name):
    return os.path.join(root, os.fsencode(name) if isinstance(name, str) else name)


def dress(name, mode=None, owner=(0, 0), time=None):
    path = at(name)
    os.chown(path, *owner, follow_symlinks=False)
    # After the owner, which takes setuid away.
    if mode is not None:
        os.chmod(path, mode)
    # Nanoseconds that a float of seconds can still tell apart from others.
    times[path] = time if time is not None else 1_600_000_000_123_456_789 + len(times) * 1_001_000_000


def directory(name, mode=0o755, **more):
    os.mkdir(at(name))
    dress(name, mode, **more)


def file(name, content=b"", mode=0o644, **more):
    with open(at(name), "wb") as out:
        out.write(content)
    dress(name, mode, **more)


def symlink(name, target, **more):
    os.symlink(target, at(name))
    dress(name, **more)


def sparse(name, size, pieces):
    with open(at(name), "wb") as out:
        for offset, length in pieces:
            out.seek(offset)
            out.write(noise.randbytes(length))
        out.truncate(size)
    dress(name, 0o644)


dress(b"", 0o711, (3, 4))

directory("plain")
file("plain/empty")
file("plain/text", b"all work and no play\n" * 20_000, 0o640, owner=(1234, 5678))
file("plain/noise", noise.randbytes(300_001))
file("plain/mixed", b"".join(noise.randbytes(3000) + b"\0" * 9000 + b"words " * 500 for _ in range(60)))
file("plain/setuid", b"#!/bin/true\n", 0o4755, owner=(7, 8))
file("plain/setgid", b"#!/bin/true\n", 0o2711)
file("plain/nobody reads this", b"secret", 0)
directory("plain/sticky", 0o1777)
directory("plain/forbidding", 0o555)
file("plain/forbidding/f", b"inside")
directory("plain/empty directory", 0o700)
file("plain/-n", b"a name like an option")
file("plain/*?[a]", b"a name like a pattern")
file("plain/back\\slash", b"\\")
file("plain/new\nline", b"\n")
file("plain/ends in a space ", b" ")
os.link(at("plain/text"), at("plain/hard"))
os.link(at("plain/text"), at("plain/sticky/hard"))
symlink("plain/relative", "sticky/hard")
symlink("plain/absolute", "/etc/passwd")
symlink("plain/dangling", "../../../nowhere", owner=(9, 10))
os.link(at("plain/dangling"), at("plain/dangling too"), follow_symlinks=False)

# Up to 255 bytes of path and 100 of a name: ustar holds them in two parts, v7 not at all.
directory("split")
directory("split/" + "d" * 90)
file("split/" + "d" * 90 + "/" + "f" * 95, b"two parts")

directory("long")
directory("long/" + "d" * 120)
directory("long/" + "d" * 120 + "/" + "e" * 120)
file("long/" + "d" * 120 + "/" + "e" * 120 + "/" + "f" * 200, b"a long path")
file("long/" + "n" * 255, b"a long name")
os.link(at("long/" + "n" * 255), at("long/hard"))
symlink("long/link", "t/" * 500 + "end")

directory("text")
file("text/ä€ \U0001f600", b"a name in UTF-8")
file("text/a\u0308 and \u00e4", b"decomposed and not")
symlink("text/link", "ä€ \U0001f600")

directory("bytes")
file(b"bytes/\xff\xfe", b"a name that is not UTF-8")
file(b"bytes/\xc3(", b"a name that is not UTF-8 either")
directory(b"bytes/\xe4\xf6")
file(b"bytes/\xe4\xf6/f", b"below one")

directory("special")
os.mkfifo(at("special/fifo"))
dress("special/fifo", 0o622, (5, 6))
for name, mode, device in [
    ("null", 0o020666, (1, 3)),
    ("block", 0o060660, (259, 70_000)),
]:
    os.mknod(at("special/" + name), mode, os.makedev(*device))
    dress("special/" + name, mode & 0o7777, (0, 6))
os.link(at("special/fifo"), at("special/fifo too"))

directory("devices")
os.mknod(at("devices/high"), 0o060600, os.makedev(4095, 1_048_575))
dress("devices/high", 0o600)

directory("owners")
file("owners/large", b"x", owner=(4_000_000_000, 3_000_000_000))
file("owners/just too large for octal", b"x", owner=(2_097_152, 2_097_152))

directory("old", time=-86_400_000_000_000)
file("old/before", b"x", time=-3_000_000_000)
file("old/epoch", b"x", time=0)
file("old/far", b"x", time=9_000_000_000_250_000_000)

directory("halves")
file("halves/before", b"x", time=-2_500_000_000)

directory("xattrs")
file("xattrs/f", b"x")
os.setxattr(at("xattrs/f"), "user.text", b"value")
os.setxattr(at("xattrs/f"), "user.binary", b"a\n=\0\xff")
os.setxattr(at("xattrs/f"), "trusted.t", b"t" * 1000)
file("xattrs/capable", b"x", 0o755)
os.setxattr(at("xattrs/capable"), "security.capability", CAPABILITY)
directory("xattrs/d")
os.setxattr(at("xattrs/d"), "user.d", b"d")

directory("sparse")
sparse("sparse/pieces", 5_000_000, [(65_536 * i + 8192, 1000) for i in range(70)])
sparse("sparse/ends in a hole", 3 << 20, [(1 << 20, 5000)])
sparse("sparse/begins with data", 2_000_001, [(0, 100), (2_000_000, 1)])
sparse("sparse/hole", 4 << 20, [])

# Deepest first: each entry that is made changes the times of its directory.
for path in sorted(times, reverse=True):
    os.utime(path, ns=(times[path], times[path]), follow_symlinks=False)
