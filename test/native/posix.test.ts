import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { loadNative } from "../../src/native/load.js";
import { makeTempDir } from "../support/temp-dir.js";

const native = loadNative();
const bytes = (text: string) => Buffer.from(text);
const failure = (code: string, syscall: string) => expect.objectContaining({ code, syscall });
let dir: string;
let file: string;

beforeEach(async () => {
  dir = await makeTempDir("posix");
  file = path.join(dir, "file");
  writeFileSync(file, "");
});

describe("extended attributes", () => {
  it("keep binary values, empty ones too", () => {
    const binary = Buffer.from([0, 1, 0xff, 0, 0x80]);
    native.setXattr(bytes(file), bytes("trusted.skim.binary"), binary);
    native.setXattr(bytes(file), bytes("user.empty"), Buffer.alloc(0));
    expect(Buffer.from(native.getXattr(bytes(file), bytes("trusted.skim.binary"))!)).toEqual(binary);
    expect(native.getXattr(bytes(file), bytes("user.empty"))).toHaveLength(0);
    const names = Buffer.from(native.listXattr(bytes(file)))
      .toString()
      .split("\0");
    expect(names).toEqual(expect.arrayContaining(["trusted.skim.binary", "user.empty", ""]));
  });

  it("are null where there is none, and an empty list", () => {
    expect(native.getXattr(bytes(file), bytes("user.none"))).toBe(null);
    expect(Buffer.from(native.listXattr(bytes(file))).toString()).not.toContain("user.");
  });

  it("are those of a symlink itself", () => {
    const link = path.join(dir, "link");
    symlinkSync("file", link);
    native.setXattr(bytes(link), bytes("trusted.skim.link"), bytes("l"));
    expect(native.getXattr(bytes(file), bytes("trusted.skim.link"))).toBe(null);
    expect(Buffer.from(native.getXattr(bytes(link), bytes("trusted.skim.link"))!).toString()).toBe("l");
  });

  it("of paths that are no UTF-8", () => {
    const odd = Buffer.concat([bytes(`${dir}/`), Buffer.from([0xff, 0x5c, 0x0a])]);
    native.mknod(odd, 0o100600, 0, 0);
    native.setXattr(odd, bytes("user.a"), bytes("1"));
    expect(Buffer.from(native.getXattr(odd, bytes("user.a"))!).toString()).toBe("1");
  });

  it("fail with the errno and the call", () => {
    expect(() => native.getXattr(bytes("/nowhere"), bytes("user.a"))).toThrow(failure("ENOENT", "lgetxattr"));
    expect(() => native.listXattr(bytes("/nowhere"))).toThrow(failure("ENOENT", "llistxattr"));
    expect(() => native.setXattr(bytes(file), bytes("unknown.a"), bytes("1"))).toThrow(
      failure("EOPNOTSUPP", "lsetxattr"),
    );
    expect(() => native.getXattr(bytes(`${file}\0more`), bytes("user.a"))).toThrow(
      failure("EINVAL", "lgetxattr"),
    );
    expect(() => native.setXattr(bytes(file), bytes("user.a\0b"), bytes("1"))).toThrow(
      failure("EINVAL", "lsetxattr"),
    );
  });
});

describe("punchHole", () => {
  it("frees whole blocks, zeroes the rest of the range and nothing else, and keeps the length", async () => {
    const name = `${dir}/punched`;
    writeFileSync(name, Buffer.alloc(64 * 1024, 7));
    const fd = openSync(name, "r+");
    try {
      fsyncSync(fd);
      expect(await native.punchHole(fd, 5000, 20_000)).toBe(true);
      const expected = Buffer.alloc(64 * 1024, 7).fill(0, 5000, 25_000);
      expect(readFileSync(name).equals(expected)).toBe(true);
      // Blocks of 4 KiB: from 8192 up to 24576.
      expect(fstatSync(fd).blocks * 512).toBe(64 * 1024 - 16 * 1024);
    } finally {
      closeSync(fd);
    }
  });

  it("fails on a descriptor that cannot be written", async () => {
    const fd = openSync(file, "r");
    await expect(native.punchHole(fd, 0, 1)).rejects.toEqual(failure("EBADF", "fallocate"));
    closeSync(fd);
  });
});

describe("mknod", () => {
  it("makes FIFOs, devices with large numbers and whiteouts", () => {
    native.mknod(bytes(`${dir}/fifo`), 0o010644, 0, 0);
    native.mknod(bytes(`${dir}/character`), 0o020600, 4095, 1048575);
    native.mknod(bytes(`${dir}/block`), 0o060600, 7, 300);
    native.mknod(bytes(`${dir}/whiteout`), 0o020000, 0, 0);
    expect(lstatSync(`${dir}/fifo`).isFIFO()).toBe(true);
    const numbers = execFileSync("stat", [
      "-c",
      "%Hr:%Lr",
      `${dir}/character`,
      `${dir}/block`,
      `${dir}/whiteout`,
    ]);
    expect(numbers.toString()).toBe("4095:1048575\n7:300\n0:0\n");
  });

  it("fails where something is already, or the number does not exist", () => {
    expect(() => native.mknod(bytes(file), 0o010644, 0, 0)).toThrow(failure("EEXIST", "mknod"));
    expect(() => native.mknod(bytes(`${dir}/x`), 0o020644, 4096, 0)).toThrow(
      expect.objectContaining({ code: "ERR_OUT_OF_RANGE" }),
    );
  });
});

describe("setTimes", () => {
  it("keeps nanoseconds, and times before 1970", () => {
    native.setTimes(bytes(file), 1_700_000_000, 123_456_789, -2, 999_999_999);
    const { atimeNs, mtimeNs } = lstatSync(file, { bigint: true });
    expect([atimeNs, mtimeNs]).toEqual([1_700_000_000_123_456_789n, -1_000_000_001n]);
  });

  it("changes a symlink, not its target", () => {
    const link = path.join(dir, "link");
    symlinkSync("file", link);
    const before = lstatSync(file).mtimeMs;
    native.setTimes(bytes(link), 1, 2, 3, 4);
    expect(lstatSync(link, { bigint: true }).mtimeNs).toBe(3_000_000_004n);
    expect(lstatSync(file).mtimeMs).toBe(before);
  });

  it("refuses nanoseconds that would mean something else to the kernel", () => {
    const utimeNow = (1 << 30) - 1;
    for (const nsec of [utimeNow, utimeNow - 1, 1_000_000_000, -1, 0.5])
      expect(() => native.setTimes(bytes(file), 0, 0, 0, nsec)).toThrow(
        expect.objectContaining({ code: "ERR_OUT_OF_RANGE" }),
      );
    expect(() => native.setTimes(bytes("/nowhere"), 0, 0, 0, 0)).toThrow(failure("ENOENT", "utimensat"));
  });
});

describe("tryLock", () => {
  it("is false while another open file holds the lock, and true when that is closed", () => {
    const [first, second] = [openSync(file, "r"), openSync(file, "r")];
    try {
      expect(native.tryLock(first, true)).toBe(true);
      expect(native.tryLock(second, true)).toBe(false);
      expect(native.tryLock(second, false)).toBe(false);
      expect(native.tryLock(first, false)).toBe(true);
      expect(native.tryLock(second, false)).toBe(true);
    } finally {
      closeSync(first);
      closeSync(second);
    }
    expect(() => native.tryLock(first, true)).toThrow(failure("EBADF", "flock"));
  });

  it("sees the lock of another process, and that it died", async () => {
    const holder = spawn("flock", ["-x", file, "sh", "-c", "echo locked; exec cat"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(holder.stdout, "data");
    const fd = openSync(file, "r");
    try {
      expect(native.tryLock(fd, true)).toBe(false);
      holder.stdin.end();
      await once(holder, "exit");
      expect(native.tryLock(fd, true)).toBe(true);
    } finally {
      closeSync(fd);
    }
  });
});

describe("mount and umount", () => {
  const mounted = (target: string) =>
    readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .filter((line) => line.includes(` ${target} `));

  it("mount a tmpfs with its options, and take it away again", async () => {
    const target = path.join(dir, "tmpfs-\u00e9");
    mkdirSync(target);
    const noSuid = 2;
    await native.mount("skim-test", target, "tmpfs", noSuid, "size=1m,mode=0711");
    try {
      expect(mounted(target)).toEqual([expect.stringMatching(/nosuid.* - tmpfs skim-test .*size=1024k/)]);
      expect(lstatSync(target).mode & 0o7777).toBe(0o711);
      const fd = openSync(target, "r");
      await expect(native.umount(target, 0)).rejects.toEqual(failure("EBUSY", "umount2"));
      closeSync(fd);
    } finally {
      await native.umount(target, 0);
    }
    expect(mounted(target)).toEqual([]);
  });

  it("fail with the errno, the call and the path", async () => {
    await expect(native.umount(dir, 0)).rejects.toEqual(
      expect.objectContaining({ code: "EINVAL", syscall: "umount2", path: dir, errno: -22 }),
    );
    await expect(native.mount("a", "/nowhere", "tmpfs", 0, "")).rejects.toEqual(failure("ENOENT", "mount"));
    await expect(native.mount("a", dir, "no-such-type", 0, "")).rejects.toEqual(failure("ENODEV", "mount"));
  });

  it("refuse options that the kernel would cut", async () => {
    const page = Number(execFileSync("getconf", ["PAGESIZE"]).toString());
    const options = (length: number) =>
      "mode=0700,".padEnd(length, "size=1m,".repeat(Math.ceil(length / 8))).slice(0, length);
    await expect(native.mount("a", dir, "tmpfs", 0, options(page))).rejects.toEqual(
      failure("EINVAL", "mount"),
    );
    expect(mounted(dir)).toEqual([]);
    // One byte less reaches the filesystem, which does not like the half option at the end.
    await expect(native.mount("a", dir, "no-such-type", 0, options(page - 1))).rejects.toEqual(
      failure("ENODEV", "mount"),
    );
    expect(() => native.mount("a", `${dir}\0b`, "tmpfs", 0, "")).toThrow(failure("EINVAL", "mount"));
  });
});
