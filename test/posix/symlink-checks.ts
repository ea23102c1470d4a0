import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";
import { longTarget } from "./posix-tree.js";

export const symlinkChecks: readonly PosixCheck[] = [
  check<Record<string, [string, number, boolean]>>(
    "targets are told as they are, up to 4095 bytes, and their length is the link's size",
    `
    def facts(name):
        path = root + b"/symlinks/" + name
        return [os.readlink(path), os.lstat(path).st_size - len(os.readlink(path)), stat.S_ISLNK(os.lstat(path).st_mode)]
    tell({name.decode(): facts(name) for name in (b"toFile", b"absolute", b"dangling", b"long", b"unicode", b"self")})`,
    (told) =>
      expect(told).toEqual({
        toFile: ["../files/small", 0, true],
        absolute: ["/files/small", 0, true],
        dangling: ["nowhere/at all", 0, true],
        long: [longTarget, 0, true],
        unicode: ["\xe2\x98\x83", 0, true],
        self: ["self", 0, true],
      }),
  ),

  check<unknown[]>(
    "readlink cuts what its buffer does not hold, and fails with EINVAL on what is no link",
    `
    def readlink(path, size):
        buffer = ctypes.create_string_buffer(size)
        length = checked(libc.readlink(path, buffer, ctypes.c_size_t(size)))
        return buffer.raw[:length]
    with opened(root + b"/symlinks/toFile", os.O_PATH | os.O_NOFOLLOW) as fd: by_descriptor = os.readlink(b"", dir_fd=fd)
    tell([readlink(root + b"/symlinks/toFile", 8), readlink(root + b"/symlinks/toFile", 100), readlink(root + b"/symlinks/long", 5000) == args[1].encode(), by_descriptor,
      *[fault(lambda: os.readlink(root + b"/" + n)) for n in (b"types/file", b"types", b"types/fifo", b"", b"missing", b"symlinks/toFile/x")]])`,
    (told) =>
      expect(told).toEqual([
        ...["../files", "../files/small", true, "../files/small"],
        ...["EINVAL", "EINVAL", "EINVAL", "EINVAL", "ENOENT", "ENOTDIR"],
      ]),
    { args: [longTarget] },
  ),

  check<boolean[]>(
    "stat, open and opendir follow links, links to links, and links on the way; lstat does not follow the last",
    `
    small, types = os.stat(root + b"/files/small").st_ino, os.stat(root + b"/types").st_ino
    s = root + b"/symlinks/"
    with opened(s + b"toLink") as fd: by_open = os.fstat(fd).st_ino
    tell([os.stat(s + b"toFile").st_ino == small, os.stat(s + b"toLink").st_ino == small, by_open == small, os.stat(s + b"toDirectory").st_ino == types,
      os.stat(s + b"toDirectory/file").st_ino == os.stat(root + b"/types/file").st_ino, os.stat(s + b"toDirectory/../files/small").st_ino == small,
      sorted(os.listdir(s + b"toDirectory")) == sorted(os.listdir(root + b"/types")), os.lstat(s + b"toFile").st_ino not in (small, types)])`,
    (told) => expect(told).toEqual(new Array(8).fill(true)),
  ),

  check<unknown[]>(
    "O_NOFOLLOW refuses a link at the end and follows those before; with O_PATH it opens the link itself",
    `
    s = root + b"/symlinks/"
    def opens(path, flags):
        fd = outcome(lambda: os.open(path, flags))
        return fd if isinstance(fd, str) else oct(stat.S_IFMT(os.fstat(fd).st_mode))
    n = os.O_NOFOLLOW
    tell([opens(s + b"toFile", n), opens(s + b"toDirectory", n), opens(s + b"dangling", n), opens(s + b"self", n), opens(s + b"toDirectory/file", n), opens(root + b"/files/small", n),
      opens(s + b"toDirectory", n | os.O_DIRECTORY), opens(s + b"toFile", n | os.O_PATH), opens(s + b"toDirectory/", n), opens(s + b"toFile", os.O_PATH)])`,
    (told) =>
      expect(told).toEqual([
        ...["ELOOP", "ELOOP", "ELOOP", "ELOOP", "0o100000", "0o100000"],
        ...["ENOTDIR", "0o120000", "0o40000", "0o100000"],
      ]),
  ),

  check<unknown[]>(
    "a slash behind a link asks for the directory it leads to",
    `
    s = root + b"/symlinks/"
    tell([stat.S_ISDIR(os.lstat(s + b"toDirectory/").st_mode), os.lstat(s + b"toDirectory/.").st_ino == os.stat(root + b"/types").st_ino,
      *[fault(lambda: os.lstat(s + n)) for n in (b"toFile/", b"toFile/.", b"dangling/", b"self/", b"toLink/")], fault(lambda: os.readlink(s + b"toDirectory/"))])`,
    (told) =>
      expect(told).toEqual([true, true, "ENOTDIR", "ENOTDIR", "ENOENT", "ELOOP", "ENOTDIR", "EINVAL"]),
  ),

  check<string[]>(
    "a link that leads nowhere is ENOENT to all who follow it, and is there for those who do not",
    `
    d = root + b"/symlinks/dangling"
    tell([fault(lambda: os.stat(d)), fault(lambda: os.open(d, os.O_RDONLY)), fault(lambda: os.listdir(d)), fault(lambda: os.stat(d + b"/x")), fault(lambda: os.lstat(d)), fault(lambda: os.readlink(d)),
      fault(lambda: os.stat(root + b"/symlinks/long"))])`,
    (told) => expect(told).toEqual(["ENOENT", "ENOENT", "ENOENT", "ENOENT", "ok", "ok", "ENOENT"]),
  ),

  check<string[]>(
    "links that lead to themselves are ELOOP, and so is the 41st link in one path",
    `
    s = root + b"/symlinks/"
    tell([fault(lambda: os.stat(s + n)) for n in (b"self", b"ping", b"pong", b"self/x", b"chain/39", b"chain/40")]
      + [fault(lambda: os.lstat(s + n)) for n in (b"self", b"ping", b"chain/40")] + [fault(lambda: os.open(s + b"self", os.O_RDONLY)), fault(lambda: os.listdir(s + b"ping"))])`,
    (told) =>
      expect(told).toEqual([
        ...["ELOOP", "ELOOP", "ELOOP", "ELOOP", "ok", "ELOOP"],
        ...["ok", "ok", "ok", "ELOOP", "ELOOP"],
      ]),
  ),

  check<string[]>(
    "an absolute link leads to the reader's root, inside a chroot to the tree's",
    `
    def inside():
        os.chroot(root)
        os.chdir("/")
        return open("/symlinks/absolute", "rb").read(), open("/symlinks/outside", "rb").read()
    content = open(root + b"/files/small", "rb").read()
    first, second = (raw(text) for text in in_child(inside))
    tell([fault(lambda: os.stat(root + b"/symlinks/absolute")), first == content, second == content])`,
    (told) => expect(told).toEqual(["ENOENT", true, true]),
  ),
];
