import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";
import { crowdNames } from "./posix-tree.js";

const everyName = [".", "..", ...crowdNames].sort();
const count = everyName.length;

export const directoryChecks: readonly PosixCheck[] = [
  check<string[]>(
    "a directory of 10,000 names lists each exactly once",
    `
    stream, names = opendir(root + b"/crowd"), []
    while (name := readdir(stream)) is not None: names.append(name)
    tell(sorted(names))`,
    (told) => expect(told).toEqual(everyName),
  ),

  check<Record<string, boolean[]>>(
    "getdents lists each name exactly once, however small or large the buffers are",
    `
    whole = sorted(e[0] for e in listed(root + b"/crowd"))
    def read(size):
        names = [e[0] for e in listed(root + b"/crowd", size)]
        return [sorted(names) == whole, len(names) == len(whole)]
    # 280: the smallest that is sure to hold an entry, whose name may have 255 bytes.
    tell({str(size): read(size) for size in (280, 1000, 4096, 65536, 1 << 20)})`,
    (told) => {
      for (const answers of Object.values(told)) expect(answers).toEqual([true, true]);
      expect(Object.keys(told)).toHaveLength(5);
    },
  ),

  check<{ wrong: unknown[]; seen: number }>(
    "every entry has the inode number and the type that lstat gives",
    `
    wrong, seen = [], 0
    for top, _, _ in os.walk(root):
        for name, ino, kind, _ in listed(top):
            # What is above the root is another filesystem's.
            if (top, name) == (root, b".."): continue
            s = os.lstat(os.path.join(top, name))
            seen += 1
            if s.st_ino != ino or stat.S_IFMT(s.st_mode) >> 12 != kind: wrong.append([top, name, ino, s.st_ino, kind])
    tell({"wrong": wrong[:10], "seen": seen})`,
    ({ wrong, seen }) => {
      expect(wrong).toEqual([]);
      expect(seen).toBeGreaterThan(10_000);
    },
  ),

  check<string[]>(
    "an empty directory lists . and .. only, and the end stays the end",
    `
    with opened(root + b"/empty") as fd:
        first = getdents(fd, 4096)
        rest = [getdents(fd, 4096) for _ in range(3)]
    tell([sorted(e[0] for e in first), rest])`,
    (told) =>
      expect(told).toEqual([
        [".", ".."],
        [[], [], []],
      ]),
  ),

  check<unknown[]>(
    "seekdir goes back to every place that telldir told, in any order",
    `
    stream, places, names = opendir(root + b"/crowd"), [], []
    while True:
        places.append(libc.telldir(stream))
        if (name := readdir(stream)) is None: break
        names.append(name)
    wrong = []
    for i in [len(names) - 1, 1, 0, 2, *range(0, len(names), 97), *range(len(names) - 1, 0, -101)]:
        libc.seekdir(stream, places[i])
        # Reading on from there: the next, and the one after it.
        found = [readdir(stream), readdir(stream)]
        if found != (names[i : i + 2] + [None])[:2]: wrong.append([i, found])
    libc.seekdir(stream, places[-1])
    tell([wrong, readdir(stream), len(names)])`,
    (told) => expect(told).toEqual([[], null, count]),
  ),

  check<unknown[]>(
    "rewinddir and lseek to 0 list the same again",
    `
    stream = opendir(root + b"/crowd")
    def rest():
        names = []
        while (name := readdir(stream)) is not None: names.append(name)
        return names
    first = rest()
    libc.rewinddir(stream)
    second = rest()
    libc.rewinddir(stream)
    some = [readdir(stream) for _ in range(5000)]
    libc.rewinddir(stream)
    third = rest()
    with opened(root + b"/crowd") as fd:
        once = getdents_all(fd, 5000)
        os.lseek(fd, 0, os.SEEK_SET)
        again = getdents_all(fd, 70000)
    tell([first == second, first == third, some == first[:5000], once == again, len(first)])`,
    (told) => expect(told).toEqual([true, true, true, true, count]),
  ),

  check<unknown[]>(
    "the offset behind an entry leads to the next one, in this and in any other reading of the directory",
    `
    with opened(root + b"/crowd") as fd: all = getdents_all(fd, 32768)
    with opened(root + b"/crowd") as other:
        wrong = []
        for i in range(0, len(all) - 1, 89):
            os.lseek(other, all[i][3], os.SEEK_SET)
            if getdents(other, 300)[0] != all[i + 1]: wrong.append(i)
        os.lseek(other, all[-1][3], os.SEEK_SET)
        end = getdents(other, 300)
    tell([wrong, end, len(set(e[3] for e in all))])`,
    (told) => expect(told).toEqual([[], [], count]),
  ),

  check<unknown[]>(
    "a directory read up to some name, closed and opened again is read on from there without loss or repetition",
    `
    whole = sorted(e[0] for e in listed(root + b"/crowd"))
    names, at = [], 0
    while True:
        with opened(root + b"/crowd") as fd:
            os.lseek(fd, at, os.SEEK_SET)
            some = getdents(fd, 20000)
        if not some: break
        names += [e[0] for e in some]
        at = some[-1][3]
    tell([sorted(names) == whole, len(names)])`,
    (told) => expect(told).toEqual([true, count]),
  ),

  check<unknown[]>(
    "two readings of a directory at once do not disturb each other",
    `
    with opened(root + b"/crowd") as a, opened(root + b"/crowd") as b:
        one, two = [], []
        for turn in range(100000):
            x, y = getdents(a, 400), getdents(b, 3000)
            one += x
            two += y
            # Every now and then one of them starts over.
            if turn == 50:
                os.lseek(b, 0, os.SEEK_SET)
                two = []
            if not x and not y: break
    tell([one == two, len(one)])`,
    (told) => expect(told).toEqual([true, count]),
  ),

  check<unknown[]>(
    "eight processes that list a directory at the same time all get the same",
    `
    def names(size): return lambda: [sha(b"/".join(e[0] for e in listed(root + b"/crowd", size)))]
    results = all_at_once([names(size) for size in (500, 4096, 9999, 32768) * 2])
    tell([len(set(r[0] for r in results)), len(results)])`,
    (told) => expect(told).toEqual([1, 8]),
  ),

  check<string[]>(
    "a buffer that holds no entry is EINVAL, a file is no directory to list, a directory no file to read",
    `
    def errors():
        with opened(root + b"/names") as fd:
            yield fault(lambda: getdents(fd, 10))
            # After that failure nothing is lost.
            yield len(getdents_all(fd, 4096)) == len(os.listdir(root + b"/names")) + 2
            os.lseek(fd, 0, os.SEEK_SET)
            yield fault(lambda: os.read(fd, 10))
            yield fault(lambda: os.pread(fd, 10, 0))
            yield fault(lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ))
        with opened(root + b"/files/plain") as fd:
            yield fault(lambda: getdents(fd, 4096))
            yield fault(lambda: os.fchdir(fd))
        with opened(root + b"/names", os.O_PATH) as fd:
            yield fault(lambda: getdents(fd, 4096))
    tell(list(errors()))`,
    (told) =>
      expect(told).toEqual(["EINVAL", true, "EISDIR", "EISDIR", "ENODEV", "ENOTDIR", "ENOTDIR", "EBADF"]),
  ),

  check<boolean[]>(
    ". and .. lead to the directory itself and to the one above, by path and by descriptor",
    `
    def ino(path, **where): return os.stat(path, **where).st_ino
    d = root + b"/types/directory/one"
    os.chdir(d)
    result = [ino(b".") == ino(d), ino(b"..") == ino(root + b"/types/directory"), ino(b"../..") == ino(root + b"/types")]
    result += [os.getcwdb() == os.path.realpath(d), ino(b"../../../files/./..//") == ino(root)]
    with opened(d) as fd, opened(b"..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd) as up:
        result += [os.fstat(up).st_ino == ino(root + b"/types/directory"), sorted(os.listdir(up)) == ["f", "one", "two"]]
        os.fchdir(up)
        result.append(ino(b"f") == ino(root + b"/types/directory/f"))
    # Above the root is what it is mounted in.
    result.append(ino(root + b"/..") == ino(os.path.dirname(root)))
    tell(result)`,
    (told) => expect(told).toEqual(new Array(9).fill(true)),
  ),
];
