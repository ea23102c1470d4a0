import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import type { OverlayBinding, OverlayMount } from "../../src/overlay/overlay-mount.js";
import { type MountOverlayOptions, mountOverlay } from "../../src/overlay/overlay-mount.js";
import { unmountOverlay } from "../../src/overlay/overlay-unmount.js";
import { imageOf, makeMountDir, modeOf, mountsBelow, native } from "./plain-lower.js";

let dir: string;
let lower: string;

beforeEach(async () => {
  dir = await makeMountDir("overlay");
  lower = path.join(dir, "lower");
  for (const name of ["", "tmp", "etc", "opt", "opt/app", "run", "var", "lib"])
    mkdirSync(path.join(lower, name));
  writeFileSync(path.join(lower, "opt/app/file"), "from the image");
  writeFileSync(path.join(lower, "etc/passwd"), "root:x:0:0::/:/bin/sh\n");
  symlinkSync("/run", path.join(lower, "var/run"));
  chmodSync(path.join(lower, "tmp"), 0o1777);
  chmodSync(path.join(lower, "opt"), 0o2750);
  chownSync(path.join(lower, "opt"), 12, 34);
  chmodSync(path.join(lower, "opt"), 0o2750);
  native.setXattr(Buffer.from(path.join(lower, "opt")), Buffer.from("user.note"), Buffer.from([0, 255, 10]));
  chmodSync(lower, 0o711);
  for (const name of ["opt/app", "opt", "tmp", ""])
    native.setTimes(Buffer.from(path.join(lower, name)), 5, 0, 1_000_000_000, 123_456_789);
});

function mount(options: Partial<MountOverlayOptions> = {}): Promise<OverlayMount> {
  const rootDir = path.join(dir, "root");
  return mountOverlay({ lower, image: imageOf(lower), rootDir, native, ...options });
}

/** As a later process would: from the record's JSON. */
function unmount(record: OverlayMount, options: { keepUpper?: boolean; lazy?: boolean } = {}) {
  return unmountOverlay(JSON.parse(JSON.stringify(record)), { native, ...options });
}

/** Everything below `dir` but the lower: what a mount may have left. */
function leftovers(): string[] {
  return readdirSync(dir).filter((name) => name !== "lower");
}

describe("the merged view", () => {
  test("has the image's root attributes, /tmp 1777, /proc and /sys 0555 and the seeds that were asked for", async () => {
    const record = await mount({
      directories: [
        { path: "/workspace", mode: 0o1700, uid: 7, gid: 8 },
        { path: "/srv/a/b" },
        { path: "/var/tmp" },
      ],
    });
    const { merged } = record;
    expect(modeOf(merged)).toBe("711");
    expect(modeOf(merged, "tmp")).toBe("1777");
    expect(modeOf(merged, "proc")).toBe("555");
    expect(modeOf(merged, "sys")).toBe("555");
    expect(modeOf(merged, "dev")).toBe("755");
    expect(modeOf(merged, "workspace")).toBe("1700");
    expect(lstatSync(path.join(merged, "workspace"))).toMatchObject({ uid: 7, gid: 8 });
    expect(modeOf(merged, "srv/a/b")).toBe("755");
    expect(modeOf(merged, "var/tmp")).toBe("1777");
    const everyDirectory = execFileSync("find", [merged, "-type", "d", "-printf", "%n\\n"], {
      encoding: "utf8",
    });
    expect(
      everyDirectory
        .trim()
        .split("\n")
        .map(Number)
        .every((nlink) => nlink >= 1),
    ).toBe(true);
    expect(await unmount(record)).toEqual({ upper: undefined });
    expect(leftovers()).toEqual([]);
    expect(mountsBelow(dir)).toEqual([]);
  });

  test("clones mode, owner, xattrs and nanoseconds of a seed and of its ancestors from the image", async () => {
    const { merged, upper } = await mount({ directories: [{ path: "/opt/app/new/deep", mode: 0o700 }] });
    expect(lstatSync(path.join(upper, "opt"))).toMatchObject({ uid: 12, gid: 34 });
    expect(modeOf(merged, "opt")).toBe("2750");
    const note = native.getXattr(Buffer.from(path.join(merged, "opt")), Buffer.from("user.note"));
    expect(note && [...note]).toEqual([0, 255, 10]);
    for (const name of ["opt", "opt/app", "tmp", ""]) {
      expect(lstatSync(path.join(merged, name), { bigint: true }).mtimeNs).toBe(1_000_000_000_123_456_789n);
    }
    // Not inherited from the setgid directory above.
    expect(modeOf(merged, "opt/app/new")).toBe("755");
    expect(lstatSync(path.join(merged, "opt/app/new"))).toMatchObject({ uid: 0, gid: 0 });
    expect(modeOf(merged, "opt/app/new/deep")).toBe("700");
    expect(readFileSync(path.join(merged, "opt/app/file"), "utf8")).toBe("from the image");
  });

  test("takes seeds through symlinks of the image to their place inside the root", async () => {
    symlinkSync("../../../../../lib/../opt", path.join(lower, "out"));
    symlinkSync("run/../out", path.join(lower, "chain"));
    const { upper, merged } = await mount({
      directories: [{ path: "/var/run/app" }, { path: "/chain/x" }, { path: "/var/run/app/../twice" }],
    });
    expect(lstatSync(path.join(merged, "var/run")).isSymbolicLink()).toBe(true);
    expect(existsSync(path.join(upper, "run/app"))).toBe(true);
    expect(existsSync(path.join(upper, "run/twice"))).toBe(true);
    expect(modeOf(upper, "opt")).toBe("2750");
    expect(existsSync(path.join(upper, "opt/x"))).toBe(true);
    expect(existsSync(path.join(upper, "var"))).toBe(false);
  });

  test("lets the container rename, change, remove and make again what the image has", async () => {
    const { merged } = await mount();
    renameSync(path.join(merged, "opt"), path.join(merged, "moved"));
    expect(readFileSync(path.join(merged, "moved/app/file"), "utf8")).toBe("from the image");
    chmodSync(path.join(merged, "etc/passwd"), 0o600);
    expect(readFileSync(path.join(merged, "etc/passwd"), "utf8")).toContain("root");
    rmSync(path.join(merged, "moved/app"), { recursive: true });
    mkdirSync(path.join(merged, "moved/app"));
    expect(readdirSync(path.join(merged, "moved/app"))).toEqual([]);
    rmSync(path.join(merged, "tmp"), { recursive: true });
    expect(existsSync(path.join(merged, "tmp"))).toBe(false);
    const devices = execFileSync("find", [merged, "-printf", "%D\\n"], { encoding: "utf8" });
    expect(new Set(devices.trim().split("\n")).size).toBe(1);
    expect(readFileSync(path.join(lower, "opt/app/file"), "utf8")).toBe("from the image");
  });

  test.each([
    ["colons, commas, spaces and backslashes", "a:b,c d\\e,\\:f=g"],
    ["a newline, a tab and letters of no ASCII", "x\ny\tz äö漢"],
  ])("is mounted from paths with %s", async (_, name) => {
    const odd = path.join(dir, name);
    mkdirSync(odd);
    renameSync(lower, path.join(odd, "lower"));
    const options = {
      lower: path.join(odd, "lower"),
      image: imageOf(path.join(odd, "lower")),
      rootDir: path.join(odd, "root"),
      upper: path.join(odd, "upper"),
    };
    const record = await mount(options);
    writeFileSync(path.join(record.merged, "new"), "x");
    expect(readFileSync(path.join(odd, "upper/new"), "utf8")).toBe("x");
    await expect(mount({ ...options, rootDir: path.join(odd, "second") })).rejects.toMatchObject({
      code: "IN_USE",
    });
    await unmount(record);
    expect(mountsBelow(dir)).toEqual([]);
    expect(readdirSync(odd).sort()).toEqual(["lower", "upper"]);
  });
});

describe("an upper dir", () => {
  test("of the caller stays with its content, and is used again without being touched", async () => {
    const upper = path.join(dir, "upper");
    const directories = [{ path: "/workspace" }, { path: "/opt/app" }];
    const first = await mount({ upper, directories });
    writeFileSync(path.join(first.merged, "workspace/result"), "42");
    chmodSync(first.merged, 0o700);
    chmodSync(path.join(first.merged, "workspace"), 0o750);
    rmSync(path.join(first.merged, "dev"), { recursive: true });
    rmSync(path.join(first.merged, "tmp"), { recursive: true });
    renameSync(path.join(first.merged, "opt"), path.join(first.merged, "moved"));
    symlinkSync("/moved/app", path.join(first.merged, "link"));
    expect(await unmount(first)).toEqual({ upper });
    expect(readdirSync(dir).sort()).toEqual(["lower", "upper"]);

    const before = execFileSync("find", [upper, "-printf", "%p %m %U %T@ %l\\n"], { encoding: "utf8" });
    const second = await mount({ upper, directories: [{ path: "/workspace", mode: 0o777 }] });
    const { merged } = second;
    expect(readFileSync(path.join(merged, "workspace/result"), "utf8")).toBe("42");
    expect(modeOf(merged, "workspace")).toBe("750");
    expect(modeOf(merged)).toBe("700");
    // The container removed it from the image's tree: making it again would bring the image's content back.
    expect(existsSync(path.join(merged, "tmp"))).toBe(false);
    await unmount(second);
    const after = execFileSync("find", [upper, "-printf", "%p %m %U %T@ %l\\n"], { encoding: "utf8" });
    // A directory that the upper alone had is made anew; nothing else differs.
    expect(
      after
        .split("\n")
        .filter((line) => !line.startsWith(`${upper}/dev `))
        .sort(),
    ).toEqual(before.split("\n").sort());

    const third = await mount({ upper, directories: [{ path: "/link/seed" }, { path: "/moved/app/other" }] });
    expect(lstatSync(path.join(third.upper, "moved/app"), { bigint: true }).mtimeNs).toBe(
      1_000_000_000_123_456_789n,
    );
    expect(existsSync(path.join(third.merged, "moved/app/seed"))).toBe(true);
    expect(existsSync(path.join(third.merged, "moved/app/file"))).toBe(true);
    await unmount(third, { keepUpper: false });
    expect(leftovers()).toEqual([]);
  });

  test("of ours is kept when asked, and found again in the same root dir", async () => {
    const first = await mount();
    writeFileSync(path.join(first.merged, "note"), "kept");
    expect(await unmount(first, { keepUpper: true })).toEqual({ upper: path.join(dir, "root/upper") });
    expect(readdirSync(path.join(dir, "root"))).toEqual(["upper"]);
    const second = await mount();
    expect(readFileSync(path.join(second.merged, "note"), "utf8")).toBe("kept");
    await unmount(second);
    expect(readdirSync(path.join(dir, "root"))).toEqual([]);
  });

  test("on a tmpfs of its own has the size that was asked for and goes with the mount", async () => {
    const record = await mount({ tmpfsUpper: { sizeBytes: 1024 * 1024 } });
    expect(modeOf(record.merged)).toBe("711");
    writeFileSync(path.join(record.merged, "fits"), Buffer.alloc(512 * 1024));
    expect(() => writeFileSync(path.join(record.merged, "more"), Buffer.alloc(1024 * 1024))).toThrow(
      "ENOSPC",
    );
    await expect(unmount(record, { keepUpper: true })).rejects.toMatchObject({ code: "USAGE" });
    expect(await unmount(record)).toEqual({ upper: undefined });
    expect(leftovers()).toEqual([]);
    expect(mountsBelow(dir)).toEqual([]);
  });

  test("that was made a moment ago stays where somebody else has come first to its lock: he has the directory", async () => {
    const upper = path.join(dir, "wanted");
    const refused = mount({ upper, native: { ...native, tryLock: () => false } });
    await expect(refused).rejects.toMatchObject({ code: "IN_USE" });
    expect(readdirSync(dir)).toContain("wanted");
    await unmount(await mount({ upper }));
  });

  test("in use is refused, naming the overlay, also through a symlink and as somebody else's work dir", async () => {
    const upper = path.join(dir, "upper");
    const record = await mount({ upper });
    symlinkSync(upper, path.join(dir, "alias"));
    mkdirSync(path.join(dir, "bound"));
    execFileSync("mount", ["--bind", upper, path.join(dir, "bound")]);
    for (const again of [upper, path.join(dir, "alias"), path.join(dir, "bound"), record.work]) {
      const second = mount({ upper: again, rootDir: path.join(dir, "second") });
      await expect(second).rejects.toMatchObject({
        code: "IN_USE",
        message: expect.stringContaining(record.merged),
      });
    }
    expect(existsSync(path.join(dir, "second"))).toBe(false);
    execFileSync("umount", [path.join(dir, "bound")]);
    await unmount(record);
    await unmount(await mount({ upper, rootDir: path.join(dir, "second") }));
  });

  test("is had by exactly one of many that want it at once", async () => {
    const upper = path.join(dir, "upper");
    mkdirSync(upper);
    const attempts = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) => mount({ upper, rootDir: path.join(dir, `root${i}`) })),
    );
    const mounted = attempts.filter((attempt) => attempt.status === "fulfilled");
    expect(mounted).toHaveLength(1);
    for (const attempt of attempts)
      if (attempt.status === "rejected") expect(attempt.reason).toMatchObject({ code: "IN_USE" });
    expect(mountsBelow(dir)).toHaveLength(1);
  });

  test("being mounted by another process is refused, naming that process", async () => {
    const upper = path.join(dir, "upper");
    mkdirSync(upper);
    writeFileSync(`${upper}.skim-lock`, `4711 /somewhere/merged\n`);
    const holder = spawn("flock", ["-x", `${upper}.skim-lock`, "sh", "-c", "echo locked; read x"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(holder.stdout, "data");
    await expect(mount({ upper })).rejects.toMatchObject({
      code: "IN_USE",
      message: expect.stringContaining("process 4711 (for /somewhere/merged)"),
    });
    holder.stdin.end("\n");
    await once(holder, "exit");
    // What a crashed process leaves is no lock.
    await unmount(await mount({ upper }));
  });
});

describe("a mount that fails says why and leaves nothing", () => {
  const failing: [string, () => Partial<MountOverlayOptions>, string, RegExp][] = [
    [
      "the lower is missing",
      () => ({ lower: path.join(dir, "none") }),
      "MOUNT_FAILED",
      /lower .*none is not there/,
    ],
    [
      "the upper lies in the lower",
      () => ({ upper: path.join(lower, "opt/up") }),
      "MOUNT_FAILED",
      /upper dir .* lies in its lower/,
    ],
    [
      "the upper's parent is missing",
      () => ({ upper: path.join(dir, "no/upper") }),
      "MOUNT_FAILED",
      /no is not there; make it first/,
    ],
    [
      "the upper is a file",
      () => ({ upper: path.join(lower, "etc/passwd") }),
      "MOUNT_FAILED",
      /not a directory/,
    ],
    [
      "a seed hits a file",
      () => ({ directories: [{ path: "/srv" }, { path: "/etc/passwd/x" }] }),
      "MOUNT_FAILED",
      /directory \/etc\/passwd\/x .*the image has \/etc\/passwd, which is not a directory/,
    ],
    [
      "a seed runs in a circle",
      () => {
        symlinkSync("loop", path.join(lower, "loop"));
        return { directories: [{ path: "/loop/x" }] };
      },
      "MOUNT_FAILED",
      /more than 40 symlinks/,
    ],
    [
      "a seed leads into /proc",
      () => {
        symlinkSync("/proc/self/fd", path.join(lower, "sneaky"));
        return { directories: [{ path: "/sneaky/8" }] };
      },
      "MOUNT_FAILED",
      /it is \/proc\/self\/fd\/8, which the container's \/proc hides/,
    ],
    [
      "the merged dir is not empty",
      () => ({ merged: lower, lower: path.join(lower, "opt") }),
      "MOUNT_FAILED",
      /lies in its merged dir|not empty/,
    ],
    [
      "two uppers are asked for",
      () => ({ upper: path.join(dir, "upper"), tmpfsUpper: true }),
      "USAGE",
      /exclude each other/,
    ],
    ["it is cancelled", () => ({ signal: AbortSignal.abort() }), "CANCELLED", /cancelled/],
    [
      "the paths do not fit the options",
      () => ({ lower: path.join(lower, ...Array.from({ length: 40 }, () => "n".repeat(100))) }),
      "MOUNT_FAILED",
      /4095; use shorter paths/,
    ],
  ];
  test.each(failing)("when %s", async (_, options, code, message) => {
    await expect(mount(options())).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(leftovers()).toEqual([]);
    expect(mountsBelow(dir)).toEqual([]);
  });

  test("when any single system call of it fails, with a tmpfs upper and with the caller's", async () => {
    mkdirSync(path.join(dir, "given"));
    const methods = ["mount", "setXattr", "setTimes", "getXattr"] as const;
    let failed = 0;
    for (const tmpfsUpper of [true, false]) {
      for (const method of methods) {
        for (let nth = 1; nth <= 3; nth++) {
          let calls = 0;
          const failing = Object.create(native, {
            [method]: {
              value: (...args: never[]) => {
                if (++calls === nth)
                  throw Object.assign(new Error("injected"), { code: "EIO", syscall: method });
                return (native[method] as (...args: never[]) => unknown)(...args);
              },
            },
          }) as OverlayBinding;
          const upper = tmpfsUpper ? { tmpfsUpper } : { upper: path.join(dir, "given") };
          const directories = [{ path: "/opt/app/a" }, { path: "/opt/app/b" }];
          const attempt = mount({ ...upper, native: failing, directories });
          if (calls < nth) {
            const outcome = await attempt.then(
              (record) => record,
              (error) => error,
            );
            if (!(outcome instanceof Error)) {
              await unmount(outcome, { keepUpper: false });
              if (!tmpfsUpper) mkdirSync(path.join(dir, "given"));
              continue;
            }
          }
          await expect(attempt).rejects.toMatchObject({ name: "SkimError" });
          failed++;
          expect(leftovers()).toEqual(["given"]);
          expect(readdirSync(path.join(dir, "given"))).toEqual([]);
          expect(mountsBelow(dir)).toEqual([]);
        }
      }
    }
    expect(failed).toBeGreaterThan(12);
  });

  test("when the upper is on an overlay, or on a filesystem without trusted xattrs", async () => {
    const outer = await mount({ rootDir: path.join(dir, "outer") });
    const nested = mount({ upper: path.join(outer.merged, "upper") });
    await expect(nested).rejects.toMatchObject({
      code: "MOUNT_FAILED",
      message: expect.stringMatching(/is on overlay, which cannot hold one; use a directory of a local disk/),
    });
    expect(existsSync(path.join(outer.merged, "upper"))).toBe(false);
    await unmount(outer);

    const bare = path.join(dir, "ramfs");
    mkdirSync(bare);
    await native.mount("ramfs", bare, "ramfs", 0, "");
    await expect(mount({ upper: path.join(bare, "upper") })).rejects.toMatchObject({
      code: "MOUNT_FAILED",
      message: expect.stringMatching(/ramfs .* no trusted xattrs/),
    });
    expect(readdirSync(bare)).toEqual([]);
  });

  test("when the upper is a mount point itself, or the merged dir is one already", async () => {
    const upper = path.join(dir, "upper");
    mkdirSync(upper);
    await native.mount("tmpfs", upper, "tmpfs", 0, "");
    await expect(mount({ upper })).rejects.toMatchObject({
      code: "MOUNT_FAILED",
      message: expect.stringMatching(/not on the same mount/),
    });
    await expect(mount({ merged: upper })).rejects.toMatchObject({ code: "IN_USE" });
    await native.umount(upper, 0);
    rmSync(upper, { recursive: true });
    expect(leftovers()).toEqual([]);
  });

  test("for a reason that only the kernel's log tells: overlays stacked too deep", async () => {
    const first = await mount({ rootDir: path.join(dir, "first") });
    const second = await mount({ rootDir: path.join(dir, "second"), lower: first.merged });
    await expect(mount({ lower: second.merged })).rejects.toMatchObject({
      code: "MOUNT_FAILED",
      message: expect.stringMatching(/EINVAL.*maximum fs stacking depth exceeded|dmesg/),
    });
    await unmount(second);
    await unmount(first);
    expect(leftovers()).toEqual([]);
  });

  test("when the upper was volatile and its machine crashed", async () => {
    const upper = path.join(dir, "upper");
    const record = await mount({ upper, volatile: true });
    await native.umount(record.merged, 0);
    await expect(mount({ upper })).rejects.toMatchObject({
      code: "MOUNT_FAILED",
      message: expect.stringMatching(/volatile .* remove .*upper.skim-work/),
    });
    await unmount(record);
    await unmount(await mount({ upper }));
  });
});

describe("unmounting", () => {
  test("can be done again, and finishes what a crash left half done", async () => {
    const record = await mount();
    await native.umount(record.merged, 0);
    await unmount(record);
    await unmount(record);
    expect(leftovers()).toEqual([]);
    const given = await mount({ upper: path.join(dir, "upper") });
    await unmount(given);
    await unmount(given);
    expect(leftovers()).toEqual(["upper"]);
  });

  test.each([
    ["its working directory there", ["sh", "-c", 'cd "$0"; echo ready; read x']],
    ["a file open", ["sh", "-c", 'exec 7<"$0/etc/passwd"; echo ready; read x']],
  ])("is refused while a process has %s, naming the process", async (what, command) => {
    const record = await mount();
    const holder = spawn(command[0]!, [...command.slice(1), record.merged], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(holder.stdout, "data");
    await expect(unmount(record)).rejects.toMatchObject({
      code: "IN_USE",
      message: expect.stringMatching(new RegExp(`process ${holder.pid} \\(sh\\) has ${what}`)),
    });
    expect(readFileSync(path.join(record.merged, "etc/passwd"), "utf8")).toContain("root");
    holder.stdin.end("\n");
    await once(holder, "exit");
    await unmount(record);
    expect(leftovers()).toEqual([]);
  });

  test("is refused while another mount namespace has the overlay as its root, and names who", async () => {
    const record = await mount();
    mkdirSync(path.join(dir, "elsewhere"));
    const script = 'mount --bind "$0" "$1" && umount "$0" && echo ready; read x';
    const holder = spawn("unshare", ["-m", "sh", "-c", script, record.merged, path.join(dir, "elsewhere")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(holder.stdout, "data");
    await expect(unmount(record)).rejects.toMatchObject({
      code: "IN_USE",
      message: expect.stringContaining(`process ${holder.pid} (sh) has it mounted on ${dir}/elsewhere`),
    });
    expect(mountsBelow(dir)).toEqual([record.merged]);
    holder.stdin.end("\n");
    await once(holder, "exit");
    await unmount(record);
    rmSync(path.join(dir, "elsewhere"), { recursive: true });
    expect(leftovers()).toEqual([]);
  });

  test("is not kept by the copy that every new mount namespace starts with", async () => {
    const record = await mount();
    const holder = spawn("unshare", ["-m", "--propagation", "private", "sh", "-c", "echo ready; read x"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(holder.stdout, "data");
    await unmount(record);
    expect(leftovers()).toEqual([]);
    holder.stdin.end("\n");
    await once(holder, "exit");
  });

  test("is refused while something is mounted in it, and done all the same when told to be lazy", async () => {
    const record = await mount();
    await native.mount("tmpfs", path.join(record.merged, "tmp"), "tmpfs", 0, "");
    await expect(unmount(record)).rejects.toMatchObject({
      code: "IN_USE",
      message: expect.stringContaining(`tmpfs is mounted on ${record.merged}/tmp`),
    });
    await unmount(record, { lazy: true });
    expect(leftovers()).toEqual([]);
    expect(mountsBelow(dir)).toEqual([]);
  });

  test("removes paths deeper than PATH_MAX and names that are no text", async () => {
    const record = await mount();
    const script =
      'import os,sys\nos.chdir(sys.argv[1])\nfor i in range(60):\n os.mkdir("d"*200); os.chdir("d"*200)\nopen(b"\\xff\\xfe","w")';
    execFileSync("python3", ["-c", script, record.merged]);
    await unmount(record);
    expect(leftovers()).toEqual([]);
  });

  test("refuses a record that names other directories than a mount makes", async () => {
    const record = await mount();
    await expect(unmount({ ...record, upper: "/etc", work: "/etc.skim-work" })).rejects.toMatchObject({
      code: "INTERNAL",
    });
    await unmount(record);
  });
});
