import { expect } from "vitest";
import { check, type PosixCheck } from "./posix-check.js";
import { patternSource, plainBytes } from "./posix-tree.js";

/** `scratch()` is a new file of a tmpfs: memfd_create(2). */
const scratchSource = `${patternSource}
def scratch(): return os.memfd_create("copy")
def content(fd): return os.pread(fd, 4_000_000, 0)
`;

export const copyingChecks: readonly PosixCheck[] = [
  check<unknown[]>(
    "sendfile copies to a file, a pipe and a socket, from any offset",
    `${scratchSource}
def read_all(fd):
    data = b""
    while piece := os.read(fd, 65536): data += piece
    return sha(data)
def through(sink, source):
    """What a child reads from \`source\` while we send to \`sink\`."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(sink)
        os.write(writer, read_all(source).encode())
        os._exit(0)
    sent = 0
    with opened(root + b"/files/plain") as fd:
        while n := os.sendfile(sink, fd, 100_001 + sent, 1 << 20): sent += n
    os.close(sink)
    return [sent, os.read(reader, 64).decode() == sha(pattern(100_001, args[1]))]
to = scratch()
with opened(root + b"/files/plain") as fd:
    sent = 0
    while n := os.sendfile(to, fd, None, 1 << 20): sent += n
pipe_out, pipe_in = os.pipe()
ours, theirs = socket.socketpair()
tell([sent, content(to) == pattern(0, args[1]), through(pipe_in, pipe_out), through(ours.detach(), theirs.detach())])`,
    (told) =>
      expect(told).toEqual([plainBytes, true, [plainBytes - 100_001, true], [plainBytes - 100_001, true]]),
    { args: [plainBytes] },
  ),

  check<unknown[]>(
    "splice and tee move bytes into a pipe",
    `${scratchSource}
reader, writer = os.pipe()
with opened(root + b"/files/plain") as fd:
    n = os.splice(fd, writer, 40_000, offset_src=12_345)
    data = b""
    while len(data) < n: data += os.read(reader, 65536)
    beyond = os.splice(fd, writer, 100, offset_src=args[1])
    tell([0 < n <= 40_000, data == pattern(12_345, 12_345 + n), beyond])`,
    (told) => expect(told).toEqual([true, true, 0]),
    { args: [plainBytes] },
  ),

  check<unknown[]>(
    "copy_file_range to another filesystem copies, or says EXDEV and copies nothing",
    `${scratchSource}
to = scratch()
with opened(root + b"/files/plain") as fd:
    got = outcome(lambda: os.copy_file_range(fd, to, 1_000_000, 5000, 0))
    tell([got in ("EXDEV", "EOPNOTSUPP") and content(to) == b"" or content(to) == pattern(5000, 5000 + got), outcome(lambda: os.copy_file_range(fd, fd, 10, 0, 100_000))])`,
    // The second wants to write to a descriptor that was not opened for it.
    (told) => expect(told).toEqual([true, "EBADF"]),
  ),

  check<unknown[]>(
    "cp, tar, dd and cat copy files and trees out, sparse ones too",
    `
    import subprocess, tempfile, shutil
    def command(*words): return subprocess.run(words, capture_output=True).returncode
    with tempfile.TemporaryDirectory(prefix="skim-copies-", dir="/dev/shm") as scratch:
        to = os.fsencode(scratch)
        codes = [command("cp", "--sparse=auto", root + b"/files/" + n, to + b"/" + n) or command("cmp", root + b"/files/" + n, to + b"/" + n) for n in (b"plain", b"sparse", b"hole", b"empty")]
        codes.append(command("cp", "--reflink=auto", root + b"/files/plain", to + b"/again") or command("cmp", root + b"/files/plain", to + b"/again"))
        codes.append(command("cp", "-a", root + b"/links", to + b"/links"))
        same = len({os.stat(to + b"/links/" + n).st_ino for n in (b"first", b"second", b"elsewhere/third")})
        os.mkdir(to + b"/out")
        codes.append(command("sh", "-c", 'tar -C "$1" -c types symlinks xattrs names | tar -C "$2" -x', "sh", root, to + b"/out"))
        codes.append(command("diff", "-r", "--no-dereference", root + b"/symlinks", to + b"/out/symlinks"))
        codes.append(command("dd", b"if=" + root + b"/files/plain", b"of=" + to + b"/dd", "bs=10007", "status=none") or command("cmp", root + b"/files/plain", to + b"/dd"))
        tell([codes, same])`,
    (told) => expect(told).toEqual([new Array(9).fill(0), 1]),
  ),
];
