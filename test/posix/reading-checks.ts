import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";
import {
  hugeBytes,
  hugePlaces,
  patternSource,
  plainBytes,
  sparseBytes,
  sparseExtents,
} from "./posix-tree.js";

const offsets = [0, 1, 7, 4095, 4096, 4097, 131_071, 131_072, 131_073, 1_048_575, 1_048_577, plainBytes - 1];
const lengths = [0, 1, 2, 511, 4096, 131_072, 131_073, 1_048_576, plainBytes, plainBytes + 10_000];

export const readingChecks: readonly PosixCheck[] = [
  check<unknown[]>(
    "pread gives exactly the bytes asked for at any offset and length, and nothing from the end on",
    `${patternSource}
whole = pattern(0, args[3])
wrong = []
with opened(root + b"/files/plain") as fd:
    for offset in args[1] + [len(whole), len(whole) + 1, len(whole) + 9999, 1 << 40]:
        for length in args[2]:
            if os.pread(fd, length, offset) != whole[offset : offset + length]: wrong.append([offset, length])
tell(wrong)`,
    (told) => expect(told).toEqual([]),
    { args: [offsets, lengths, plainBytes] },
  ),

  check<unknown[]>(
    "read goes on where it stopped, up to the end, where it stays",
    `${patternSource}
with opened(root + b"/files/plain") as fd:
    data = b""
    while piece := os.read(fd, 10_007): data += piece
    at_end = [os.read(fd, 10), os.lseek(fd, 0, os.SEEK_CUR)]
    copy = os.dup(fd)
    os.lseek(copy, 8, os.SEEK_SET)
    shared = os.read(fd, 8) == pattern(8, 16)
with opened(root + b"/files/empty") as fd: empty = os.read(fd, 100)
tell([data == pattern(0, args[1]), *at_end, shared, empty])`,
    (told) => expect(told).toEqual([true, "", plainBytes, true, ""]),
    { args: [plainBytes] },
  ),

  check<unknown[]>(
    "holes read as zeros, data between them as data",
    `${patternSource}
expected = bytearray(args[1])
for at, start, length in args[2]: expected[at : at + length] = pattern(start, start + length)
with opened(root + b"/files/sparse") as fd:
    pieces = [os.pread(fd, n, at) == expected[at : at + n] for at in (0, 99_999, 100_000, 100_001, 104_096, 104_097, 299_999, 431_072, 431_073, 700_000) for n in (1, 2, 5000, 200_000)]
hole = open(root + b"/files/hole", "rb").read()
tell([open(root + b"/files/sparse", "rb").read() == expected, all(pieces), len(hole), hole.count(0)])`,
    (told) => expect(told).toEqual([true, true, 1_000_000, 1_000_000]),
    { args: [sparseBytes, sparseExtents] },
  ),

  check<unknown[]>(
    "offsets beyond 2 GiB, 4 GiB and a tebibyte mean what they say",
    `${patternSource}
with opened(root + b"/files/huge") as fd:
    data = [os.pread(fd, 8, at) == pattern(800 * (i + 1), 800 * (i + 1) + 8) for i, at in enumerate(args[1])]
    around = [os.pread(fd, 12, at - 2) == b"\\0\\0" + os.pread(fd, 10, at) for at in args[1]]
    os.lseek(fd, args[1][2], os.SEEK_SET)
    tell([data, around, os.read(fd, 100) == os.pread(fd, 8, args[1][2]), os.lseek(fd, 0, os.SEEK_CUR), os.lseek(fd, 0, os.SEEK_END), os.lseek(fd, 1 << 40, os.SEEK_SET), os.read(fd, 10)])`,
    (told) =>
      expect(told).toEqual([[true, true, true], [true, true, true], true, hugeBytes, hugeBytes, 2 ** 40, ""]),
    { args: [hugePlaces] },
  ),

  check<unknown[]>(
    "lseek counts from the start, from here and from the end, and refuses to go before the start",
    `
    with opened(root + b"/files/small") as fd:
        tell([os.lseek(fd, 40, os.SEEK_SET), os.lseek(fd, 10, os.SEEK_CUR), os.lseek(fd, -50, os.SEEK_END), os.lseek(fd, 900, os.SEEK_END), os.read(fd, 10),
          fault(lambda: os.lseek(fd, -1, os.SEEK_SET)), fault(lambda: os.lseek(fd, -101, os.SEEK_END)), os.lseek(fd, 0, os.SEEK_CUR),
          fault(lambda: os.lseek(fd, 0, 77)), fault(lambda: os.pread(fd, 1, -1))])`,
    (told) => expect(told).toEqual([40, 50, 50, 1000, "", "EINVAL", "EINVAL", 1000, "EINVAL", "EINVAL"]),
  ),

  check<unknown[]>(
    "SEEK_DATA and SEEK_HOLE of a file of data find data at once and the hole at its end, and ENXIO from there on",
    `
    with opened(root + b"/files/plain") as fd:
        size = os.fstat(fd).st_size
        def seek(at, how): return outcome(lambda: os.lseek(fd, at, how))
        dense = [seek(at, os.SEEK_DATA) for at in (0, 1, 100_000, size - 1, size, size + 1)], [seek(at, os.SEEK_HOLE) for at in (0, 1, size - 1, size, size + 1)]
        unmoved = os.lseek(fd, 5, os.SEEK_SET), seek(size, os.SEEK_DATA), os.lseek(fd, 0, os.SEEK_CUR)
    with opened(root + b"/files/empty") as fd: empty = [outcome(lambda: os.lseek(fd, 0, how)) for how in (os.SEEK_DATA, os.SEEK_HOLE)]
    tell([*dense, unmoved, empty])`,
    (told) =>
      expect(told).toEqual([
        [0, 1, 100_000, plainBytes - 1, "ENXIO", "ENXIO"],
        [plainBytes, plainBytes, plainBytes, "ENXIO", "ENXIO"],
        [5, "ENXIO", 5],
        ["ENXIO", "ENXIO"],
      ]),
  ),

  check<boolean[]>(
    "who reads only what SEEK_DATA and SEEK_HOLE call data misses none",
    `
    def walk(path):
        with opened(path) as fd:
            size, at, copy = os.fstat(fd).st_size, 0, bytearray(os.fstat(fd).st_size)
            while at < size:
                data = outcome(lambda: os.lseek(fd, at, os.SEEK_DATA))
                if data == "ENXIO": break
                end = os.lseek(fd, data, os.SEEK_HOLE)
                if not at <= data < end <= size: return False
                copy[data:end] = os.pread(fd, end - data, data)
                at = end
        return copy == open(path, "rb").read()
    tell([walk(root + b"/files/" + n) for n in (b"plain", b"sparse", b"hole", b"empty", b"page")])`,
    (told) => expect(told).toEqual([true, true, true, true, true]),
  ),

  check<unknown[]>(
    "readv, preadv and preadv2 fill their buffers in order",
    `${patternSource}
with opened(root + b"/files/plain") as fd:
    def buffers(): return [bytearray(n) for n in (1, 4095, 0, 8192, 100_003)]
    total = 1 + 4095 + 8192 + 100_003
    a, b, c = buffers(), buffers(), buffers()
    lengths = [os.readv(fd, a), os.preadv(fd, b, 12_345), os.preadv(fd, c, args[1] - 5000), os.lseek(fd, 0, os.SEEK_CUR)]
    # With RWF_NOWAIT what is not in the page cache is EAGAIN, or a part.
    os.pread(fd, 8192, 0)
    d = [bytearray(8192)]
    now = outcome(lambda: os.preadv(fd, d, 0, os.RWF_NOWAIT))
    tell([lengths, b"".join(a) == pattern(0, total), b"".join(b) == pattern(12_345, 12_345 + total), b"".join(c)[:5000] == pattern(args[1] - 5000, args[1]),
      now in ("EAGAIN", "EOPNOTSUPP") or d[0][:now] == pattern(0, now)])`,
    (told) => expect(told).toEqual([[112_291, 112_291, 5000, 112_291], true, true, true, true]),
    { args: [plainBytes] },
  ),

  check<unknown[]>(
    "aligned reads with O_DIRECT, where it may be opened so, give the same bytes",
    `${patternSource}
fd = outcome(lambda: os.open(root + b"/files/plain", os.O_RDONLY | os.O_DIRECT))
if fd == "EINVAL": tell([True])
else:
    area = mmap.mmap(-1, 1 << 20)
    def read(at, n):
        got = os.preadv(fd, [memoryview(area)[:n]], at)
        return area[:got] == pattern(at, min(at + n, args[1]))
    tell([read(at, n) for at in (0, 4096, 131_072, 1 << 20, args[1] // 4096 * 4096) for n in (4096, 65_536, 1 << 20)])`,
    (told) => expect(new Set(told)).toEqual(new Set([true])),
    { args: [plainBytes] },
  ),

  check<unknown[]>(
    "sixteen processes that read one file at different places at once get the right bytes",
    `${patternSource}
def reader(i):
    def read():
        wrong = []
        with opened(root + b"/files/plain") as fd:
            for k in range(40):
                at, n = (i * 151_051 + k * 61_001) % args[1], 1 + (i * 7 + k * 3001) % 70_000
                if os.pread(fd, n, at) != pattern(at, min(at + n, args[1])): wrong.append([at, n])
        return wrong
    return read
tell(all_at_once([reader(i) for i in range(16)]))`,
    (told) => expect(told).toEqual(new Array(16).fill([])),
    { args: [plainBytes] },
  ),

  check<unknown[]>(
    "advice and readahead are taken, and change no bytes",
    `${patternSource}
with opened(root + b"/files/plain") as fd:
    advice = [fault(lambda: os.posix_fadvise(fd, 0, length, which)) for which in (os.POSIX_FADV_NORMAL, os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_RANDOM,
        os.POSIX_FADV_WILLNEED, os.POSIX_FADV_NOREUSE, os.POSIX_FADV_DONTNEED) for length in (0, 10_000)]
    advice.append(fault(lambda: checked(libc.readahead(fd, ctypes.c_int64(4096), ctypes.c_size_t(1 << 20)))))
    tell([advice, os.pread(fd, 3_000_000, 0) == pattern(0, args[1]), fault(lambda: os.posix_fadvise(fd, 0, 0, 77))])`,
    (told) => expect(told).toEqual([new Array(13).fill("ok"), true, "EINVAL"]),
    { args: [plainBytes] },
  ),

  check<unknown[]>(
    "a read after the page cache was dropped gives the same bytes again",
    `${patternSource}
with opened(root + b"/files/plain") as fd:
    result = []
    for at, n in ((0, 10_000), (1_000_001, 500_000), (args[1] - 5000, 5000)):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        result.append(os.pread(fd, n, at) == pattern(at, at + n))
    tell(result)`,
    (told) => expect(told).toEqual([true, true, true]),
    { args: [plainBytes] },
  ),

  check<unknown[]>(
    "ioctl tells how much is left to read, and ENOTTY for what only terminals know",
    `
    import termios
    with opened(root + b"/files/small") as fd, opened(root + b"/files") as directory:
        os.lseek(fd, 30, os.SEEK_SET)
        left = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, struct.pack("i", 0)))
        tell([left, fault(lambda: fcntl.ioctl(fd, termios.TCGETS, b"\\0" * 60)), fault(lambda: fcntl.ioctl(directory, termios.TCGETS, b"\\0" * 60)), os.isatty(fd)])`,
    (told) => expect(told).toEqual([[70], "ENOTTY", "ENOTTY", false]),
  ),
];
