import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";

export const specialFileChecks: readonly PosixCheck[] = [
  check<unknown[]>(
    "a FIFO joins two processes, and is EOF and ENXIO without the other end",
    `
    fifo = root + b"/types/fifo"
    with opened(fifo, os.O_RDONLY | os.O_NONBLOCK) as fd: alone = [os.read(fd, 10)]
    alone.append(fault(lambda: os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)))
    def write():
        with opened(fifo, os.O_WRONLY) as fd: os.write(fd, b"through the pipe")
    def read():
        with opened(fifo) as fd: return os.read(fd, 100)
    tell([alone, all_at_once([write, read]), stat.S_ISFIFO(os.stat(fifo).st_mode), os.stat(fifo).st_size])`,
    ([alone, both, isFifo, size]) => {
      expect([alone, both]).toEqual([
        ["", "ENXIO"],
        [null, "through the pipe"],
      ]);
      expect([isFifo, size]).toEqual([true, 0]);
    },
  ),

  check<unknown[]>(
    "a device node is the device of its numbers, for writing too",
    `
    with opened(root + b"/types/null", os.O_RDWR) as fd:
        result = [os.write(fd, b"gone"), os.read(fd, 10), os.fstat(fd).st_rdev == os.stat("/dev/null").st_rdev]
    result += [fault(lambda: os.open(root + b"/types/" + n, os.O_RDONLY)) for n in (b"unknown", b"block")]
    tell(result)`,
    (told) => expect(told).toEqual([4, "", true, "ENXIO", "ENXIO"]),
  ),

  check<unknown[]>(
    "programs and scripts run from the tree",
    `
    import subprocess
    def output(*words): return subprocess.run(words, capture_output=True).stdout
    tell([output(root + b"/bin/id", "-u"), output(root + b"/bin/script", "works"), fault(lambda: os.execv(root + b"/bin/plain", ["x"])), fault(lambda: os.execv(root + b"/types", ["x"])),
      fault(lambda: os.execv(root + b"/bin/missing", ["x"])), fault(lambda: os.execv(root + b"/types/fifo", ["x"]))])`,
    (told) => expect(told).toEqual(["0\n", "script works\n", "EACCES", "EACCES", "ENOENT", "EACCES"]),
  ),

  check<unknown[]>(
    "setuid and setgid programs run as their owner and group",
    `
    import subprocess
    def ids(name): return subprocess.run([root + b"/bin/" + name, "-u"], capture_output=True).stdout + subprocess.run([root + b"/bin/" + name, "-g"], capture_output=True).stdout
    tell(as_user(65534, 65533, lambda: [ids(n) for n in (b"id", b"asOwner", b"asGroup")]))`,
    (told) => expect(told).toEqual(["65534\n65533\n", "12345\n65533\n", "65534\n23456\n"]),
  ),

  check<unknown[]>(
    "a program runs by a descriptor too",
    `
    def run():
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.dup2(writer, 1)
            os.execve(os.open(root + b"/bin/id", os.O_RDONLY), ["id", "-u"], {})
        return os.read(reader, 100)
    tell(run())`,
    (told) => expect(told).toBe("0\n"),
  ),
];
