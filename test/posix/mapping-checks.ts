import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";
import { patternSource, plainBytes } from "./posix-tree.js";

export const mappingChecks: readonly PosixCheck[] = [
  check<unknown[]>(
    "a shared mapping for reading has the file's bytes, at any page",
    `${patternSource}
with opened(root + b"/files/plain") as fd:
    whole = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    part = mmap.mmap(fd, 8192, mmap.MAP_SHARED, mmap.PROT_READ, offset=1 << 20)
# A mapping outlives its descriptor.
tell([whole[:] == pattern(0, args[1]), part[:] == pattern(1 << 20, (1 << 20) + 8192), len(whole)])`,
    (told) => expect(told).toEqual([true, true, plainBytes]),
    { args: [plainBytes] },
  ),

  check<unknown[]>(
    "a private mapping can be written, and nobody else sees it",
    `${patternSource}
with opened(root + b"/files/plain") as fd:
    private = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    shared = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    private[0:4], private[5000:5004], private[args[1] - 1 : args[1]] = b"mine", b"mine", b"!"
    tell([private[0:4], private[4:5000] == pattern(4, 5000), private[5000:5004], shared[:] == pattern(0, args[1]), os.pread(fd, 6000, 0) == pattern(0, 6000)])`,
    (told) => expect(told).toEqual(["mine", true, "mine", true, true]),
    { args: [plainBytes] },
  ),

  check<unknown[]>(
    "no mapping can write to the file",
    `
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    def errors():
        with opened(root + b"/files/plain") as fd:
            yield fault(lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
            at = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
            yield fault(lambda: checked(libc.mprotect(at, 4096, mmap.PROT_READ | mmap.PROT_WRITE)))
            def store(): ctypes.memset(at, 1, 1)
            yield in_child(store)
    tell(list(errors()))`,
    // SIGSEGV is 11.
    (told) => expect(told).toEqual(["EACCES", "EACCES", { signal: 11 }]),
  ),

  check<unknown[]>(
    "behind the end of the file a mapping is zeros up to the end of the page, and SIGBUS from there on",
    `${patternSource}
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
def look(name, at, n, how=mmap.MAP_SHARED):
    def run():
        with opened(root + b"/files/" + name) as fd:
            address = libc.mmap(None, 4 << 20, mmap.PROT_READ, how, fd, 0)
            return ctypes.string_at(address + at, n)
    return in_child(run)
tail = -args[1] % 4096
tell([look(b"plain", args[1] - 3, 3).encode("latin1") == pattern(args[1] - 3, args[1]), look(b"plain", args[1], tail) == "\\0" * tail, look(b"plain", args[1] + tail, 1),
  look(b"plain", args[1] + tail, 1, mmap.MAP_PRIVATE), look(b"page", 4095, 1).encode("latin1") == pattern(4095, 4096), look(b"page", 4096, 1), look(b"empty", 0, 1), look(b"small", 100, 3996) == "\\0" * 3996])`,
    // SIGBUS is 7.
    (told) =>
      expect(told).toEqual([
        true,
        true,
        { signal: 7 },
        { signal: 7 },
        true,
        { signal: 7 },
        { signal: 7 },
        true,
      ]),
    { args: [plainBytes] },
  ),

  check<unknown[]>(
    "mappings take advice, population and execution, and agree with read",
    `
    MAP_POPULATE = 0x8000
    with opened(root + b"/files/plain") as fd:
        at_once = mmap.mmap(fd, 0, mmap.MAP_PRIVATE | MAP_POPULATE, mmap.PROT_READ)
        m = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        same = [at_once[:] == m[:]]
        for advice in (mmap.MADV_SEQUENTIAL, mmap.MADV_RANDOM, mmap.MADV_WILLNEED, mmap.MADV_DONTNEED):
            m.madvise(advice)
            same.append(m[100_000:200_000] == os.pread(fd, 100_000, 100_000))
    with opened(root + b"/bin/id") as fd:
        code = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
        same.append(code[:4] == b"\\x7fELF")
    tell(same)`,
    (told) => expect(told).toEqual(new Array(6).fill(true)),
  ),

  check<unknown[]>(
    "sixteen processes that map one file at once see the right bytes",
    `${patternSource}
def reader(i):
    def read():
        with opened(root + b"/files/plain") as fd: m = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        return all(m[at : at + 100] == pattern(at, min(at + 100, args[1])) for at in range(i * 4096 + 4000, args[1], 81_920))
    return read
tell(all_at_once([reader(i) for i in range(16)]))`,
    (told) => expect(told).toEqual(new Array(16).fill(true)),
    { args: [plainBytes] },
  ),
];
