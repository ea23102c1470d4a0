import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";
import { acl, capability, value64K } from "./posix-tree.js";

const fileNames = [
  "security.capability",
  "trusted.t",
  "user.binary",
  "user.empty",
  "user.large",
  `user.${"x".repeat(250)}`,
];
const listBytes = fileNames.reduce((sum, name) => sum + name.length + 1, 0);

/** Values the kernel hides by itself (xattr_permission); what listxattr gives it takes as it is. */
const namesOfRoot = "FUSE servers are not told what the reader may do";

export const xattrChecks: readonly PosixCheck[] = [
  check<unknown[]>(
    "every attribute is listed and has its bytes, on files and directories, by path and by descriptor",
    `
    def all_of(path): return sorted([name.encode(), os.getxattr(path, name)] for name in os.listxattr(path))
    f = root + b"/xattrs/file"
    with opened(f) as fd: by_descriptor = all_of(fd)
    tell([all_of(f), by_descriptor == all_of(f), all_of(root + b"/xattrs"), all_of(root + b"/xattrs/plain"), all_of(root)])`,
    (told) =>
      expect(told).toEqual([
        [
          ["security.capability", capability],
          ["trusted.t", "of root"],
          ["user.binary", "\x00\xff\x00"],
          ["user.empty", ""],
          ["user.large", value64K],
          [`user.${"x".repeat(250)}`, "long name"],
        ],
        true,
        [["user.dir", "d"]],
        [],
        [],
      ]),
  ),

  check<unknown[]>(
    "a symbolic link has its own attributes, and those of its target for who follows it",
    `
    link = root + b"/xattrs/link"
    tell([os.listxattr(link, follow_symlinks=False), os.getxattr(link, "trusted.link", follow_symlinks=False), fault(lambda: os.getxattr(link, "trusted.link")),
      os.getxattr(link, "user.binary"), fault(lambda: os.getxattr(link, "user.binary", follow_symlinks=False)), len(os.listxattr(link))])`,
    (told) =>
      expect(told).toEqual([
        ["trusted.link"],
        "of the link",
        "ENODATA",
        "\x00\xff\x00",
        "ENODATA",
        fileNames.length,
      ]),
  ),

  check<unknown[]>(
    "getxattr tells the size when asked with none, fills a buffer that is just right or larger, and refuses smaller ones with ERANGE",
    `
    f = root + b"/xattrs/file"
    def sizes(name, *buffers): return [outcome(lambda: (lambda v: v if isinstance(v, int) else len(v))(getxattr(f, name, n))) for n in buffers]
    tell([sizes(b"user.binary", 0, 1, 2, 3, 4, 1000), sizes(b"user.large", 0, 1, 65535, 65536), sizes(b"user.empty", 0, 1), sizes(b"security.capability", 0, 19, 20)])`,
    (told) =>
      expect(told).toEqual([
        [3, "ERANGE", "ERANGE", 3, 3, 3],
        [65_536, "ERANGE", "ERANGE", 65_536],
        [0, 0],
        [20, "ERANGE", 20],
      ]),
  ),

  check<unknown[]>(
    "listxattr likewise, and has no bytes where there are no attributes",
    `
    def sizes(path, *buffers): return [outcome(lambda: (lambda v: v if isinstance(v, int) else len(v))(listxattr(root + path, n))) for n in buffers]
    n = args[1]
    tell([sizes(b"/xattrs/file", 0, 1, n - 1, n, n + 1, 65536), sizes(b"/xattrs/plain", 0, 1, 100), sizes(b"/xattrs", 0, 8, 9)])`,
    (told) =>
      expect(told).toEqual([
        [listBytes, "ERANGE", "ERANGE", fileNames.length, fileNames.length, fileNames.length],
        [0, 0, 0],
        [9, "ERANGE", 1],
      ]),
    { args: [listBytes] },
  ),

  check<unknown[]>(
    "an attribute that is not there is ENODATA, whatever size is asked for; a file that is not there ENOENT",
    `
    def get(path, name, *sizes): return [outcome(lambda: getxattr(root + path, name, n)) for n in sizes]
    tell([get(b"/xattrs/file", b"user.none", 0, 10), get(b"/xattrs/plain", b"user.none", 0, 10), get(b"/xattrs/plain", b"security.capability", 0, 100), get(b"/xattrs/file", b"user.binar", 0),
      get(b"/xattrs/file", b"trusted.overlay.opaque", 0), get(b"/xattrs/missing", b"user.none", 0), get(b"/xattrs/file/x", b"user.none", 0), get(b"/types/null", b"user.none", 0), get(b"/xattrs/file", b"user." + b"n" * 251, 0)])`,
    (told) =>
      expect(told).toEqual([
        ["ENODATA", "ENODATA"],
        ["ENODATA", "ENODATA"],
        ["ENODATA", "ENODATA"],
        ["ENODATA"],
        ["ENODATA"],
        ["ENOENT"],
        ["ENOTDIR"],
        ["ENODATA"],
        ["ERANGE"],
      ]),
  ),

  check<unknown[]>(
    "other users see user attributes of what they may read, and no value that is for root",
    `
    def seen():
        x = root + b"/xattrs/"
        return [os.getxattr(x + b"file", "user.binary"), fault(lambda: os.getxattr(x + b"file", "trusted.t")), fault(lambda: os.getxattr(x + b"secret", "user.secret")), fault(lambda: os.getxattr(x + b"file", "security.capability")), "user.dir" in os.listxattr(x)]
    tell(as_user(65534, 65534, seen))`,
    (told) => expect(told).toEqual(["\x00\xff\x00", "ENODATA", "EACCES", "ok", true]),
  ),

  check<unknown[]>(
    "other users do not see the names of trusted attributes",
    `tell(as_user(65534, 65534, lambda: [n for n in os.listxattr(root + b"/xattrs/file") if n.startswith("trusted.")]))`,
    (told) => expect(told).toEqual([]),
    { exceptions: { native: namesOfRoot, "fuse-native": namesOfRoot } },
  ),

  check<unknown[]>(
    "an access control list is an attribute with the bytes that it was given",
    `tell([os.getxattr(root + b"/xattrs/acl", "system.posix_acl_access"), os.listxattr(root + b"/xattrs/acl"), oct(os.stat(root + b"/xattrs/acl").st_mode)])`,
    (told) => expect(told).toEqual([acl, ["system.posix_acl_access"], "0o100640"]),
  ),

  check<unknown[]>(
    "getcap and getfattr find what is there",
    `
    import subprocess
    def output(*words): return subprocess.run(words, capture_output=True).stdout
    caps = output("getcap", root + b"/xattrs/file") if os.path.exists("/sbin/getcap") or os.path.exists("/usr/sbin/getcap") else b"cap_net_bind_service"
    tell([b"cap_net_bind_service" in caps])`,
    (told) => expect(told).toEqual([true]),
  ),
];
