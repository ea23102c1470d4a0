/** What SEMANTICS.md says of inodes, names and links, asked of a real mount by other processes. */
import { constants } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findMount } from "../../src/fuse/mount-table.js";
import { engines } from "../support/engines.js";
import { endServers, type FuseServer, python, run } from "../support/fuse-mount.js";
import { makeTempDir } from "../support/temp-dir.js";
import {
  errnos,
  GiB,
  layer,
  longName,
  longTarget,
  manyNames,
  mountSemanticsImage,
  unicodeName,
} from "./semantics-image.js";

const { EINVAL, ENOENT, EILSEQ } = constants.errno;

for (const engine of engines)
  describe(`engine ${engine}`, () => {
    let dir = "";
    let mnt = "";
    let server: FuseServer;

    beforeAll(async () => {
      dir = await makeTempDir("fuse");
      server = await mountSemanticsImage(dir, engine);
      mnt = server.mountpoint;
    });

    afterAll(async () => {
      if (mnt) await server.close();
      await endServers();
      expect(findMount(mnt)).toBeUndefined();
    });

    const isNative = engine === "native";
    const inside = (name: string) => path.join(mnt, name);

    describe("the mount", () => {
      it("is read-only, honours setuid and devices, checks permissions and lets others in", () => {
        const mount = findMount(mnt)!;
        expect(mount).toMatchObject({ type: "fuse.skim", source: "registry/app,v1:x\\y" });
        expect(mount.options).toContain("ro");
        expect(mount.options).not.toContain("nosuid");
        expect(mount.options).not.toContain("nodev");
        expect(mount.superOptions).toEqual(
          expect.arrayContaining(["ro", "default_permissions", "allow_other"]),
        );
      });

      it("has a size that is not zero, names of 255 bytes, and nothing free", async () => {
        const source =
          "import os,sys,json;s=os.statvfs(sys.argv[1]);print(json.dumps([s.f_bsize,s.f_frsize,s.f_blocks,s.f_bfree,s.f_bavail,s.f_files,s.f_namemax,s.f_flag&1]))";
        const [bsize, frsize, blocks, free, available, files, names, readOnly] = await python<number[]>(
          source,
          mnt,
        );
        expect([bsize, frsize, free, available, names, readOnly]).toEqual([4096, 4096, 0, 0, 255, 1]);
        expect(blocks).toBeGreaterThan((5 * GiB) / 4096);
        expect(files).toBeGreaterThan(20_000);
        const df = await run("df", ["-h", mnt]);
        expect(df.stdout).toContain(mnt);
      });
    });

    describe("attributes", () => {
      const format = "%y %m %U %G %s %n %T@ %A@ %C@ %b";

      it("are those of the image: type, mode, owner, size, links, times", async () => {
        const { stdout } = await run("find", [inside("attributes"), "-printf", `%P|${format}\n`]);
        const found = Object.fromEntries(
          stdout
            .trim()
            .split("\n")
            .map((line) => [line.split("|")[0], line.split("|")[1]]),
        );
        const times = (text: string) => `${text} ${text} ${text}`;
        expect(found).toEqual({
          "": `d 755 0 0 4096 5 ${times("1234567890.0000000000")} 8`,
          first: `f 640 70000 4000000000 1000 2 ${times(isNative ? "1700000000.9876543210" : "1700000000.9870000000")} 2`,
          second: `f 640 70000 4000000000 1000 2 ${times(isNative ? "1700000000.9876543210" : "1700000000.9870000000")} 2`,
          sticky: `d 1777 0 0 4096 2 ${times("5.2500000000")} 8`,
          setgid: `d 2755 0 33 4096 3 ${times("1700000000.0000000000")} 8`,
          "setgid/inner": `d 755 0 0 4096 2 ${times("1700000000.0000000000")} 8`,
          old: `f 644 0 0 1 1 ${times(isNative ? "-1000000000.0000000000" : "0.0000000000")} 1`,
          far: `f 644 0 0 1 1 ${times("5000000000.0000000000")} 1`,
          secret: `f 600 0 0 10 1 ${times("1700000000.0000000000")} 1`,
          closed: `d 700 0 0 4096 2 ${times("1700000000.0000000000")} 8`,
          "closed/inside": `f 644 0 0 1 1 ${times("1700000000.0000000000")} 1`,
        });
      });

      it("of the root are the image's own, with inode number 1", async () => {
        const { stdout } = await run("stat", ["-c", "%i %a %u %g %h %Y %F", mnt]);
        expect(stdout).toBe("1 711 7 8 11 1500000000 directory\n");
      });

      it("give no inode a link count of 0", async () => {
        const { stdout } = await run("find", [mnt, "-links", "-1", "-print"]);
        expect(stdout).toBe("");
      });

      it("give both names of a hard link one inode number", async () => {
        const { stdout } = await run("stat", [
          "-c",
          "%i",
          inside("attributes/first"),
          inside("attributes/second"),
        ]);
        const [first, second] = stdout.trim().split("\n");
        expect(first).toBe(second);
        const same = await run("find", [mnt, "-samefile", inside("attributes/first"), "-printf", "%f\n"]);
        expect(same.stdout.trim().split("\n").sort()).toEqual(["first", "second"]);
      });

      it("do not make files with holes look sparse to find and cp, and blocks are of 512 bytes", async () => {
        const { stdout } = await run("stat", ["-c", "%b %B %o", inside("files/hole"), inside("files/empty")]);
        expect(stdout).toBe("1954 512 4096\n0 512 4096\n");
      });

      it("have the device numbers of the image", async () => {
        const { stdout } = await run("stat", [
          "-c",
          "%F %t %T",
          inside("dev/null"),
          inside("dev/high"),
          inside("dev/fifo"),
        ]);
        expect(stdout).toBe("character special file 1 3\nblock special file fff fffff\nfifo 0 0\n");
      });
    });

    describe("directories", () => {
      it("list . and .. and every name once, each with the inode number and type that stat gives", async () => {
        const source = `
import os, sys, json, stat, ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.readdir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
root = os.fsencode(sys.argv[1])
wrong, count = [], 0
for top, dirs, files in os.walk(root):
    d = libc.opendir(top)
    names = []
    while entry := libc.readdir(d):
        # struct dirent of 64-bit Linux: ino, off, reclen, type, name
        ino, kind = struct.unpack_from("QqHB", ctypes.string_at(entry, 19))[0::3]
        name = ctypes.string_at(entry + 19)
        found = os.stat(root) if (top, name) == (root, b"..") else os.lstat(os.path.join(top, name))
        if found.st_ino != ino or stat.S_IFMT(found.st_mode) >> 12 != kind:
            wrong.append([repr(name), ino, found.st_ino, kind])
        names.append(name)
        count += 1
    libc.closedir(d)
    if names[:2] != [b".", b".."] or len(set(names)) != len(names):
        wrong.append(repr(top))
print(json.dumps([wrong, count]))`;
        const [wrong, count] = await python<[unknown[], number]>(source, mnt);
        expect(wrong).toEqual([]);
        expect(count).toBeGreaterThan(20_000);
      });

      it("list 20,000 names in the order of their bytes", async () => {
        const { stdout } = await run("ls", ["-U", inside("many")]);
        expect(stdout.trim().split("\n")).toEqual([...manyNames].sort());
      });

      it("go on at the right name after telldir, seekdir and rewinddir", async () => {
        const source = `
import sys, json, ctypes, ctypes.util
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
for f in ("readdir", "telldir", "rewinddir", "closedir"): getattr(libc, f).argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
def read(d):
    entry = libc.readdir(d)
    return ctypes.string_at(entry + 19).decode("latin1") if entry else None
d = libc.opendir(sys.argv[1].encode())
places, names = [], []
while True:
    places.append(libc.telldir(d))
    name = read(d)
    if name is None: break
    names.append(name)
wrong = 0
for i in list(range(0, len(names), 997)) + [1, 2, 3, len(names) - 1]:
    libc.seekdir(d, places[i])
    if read(d) != names[i]: wrong += 1
libc.rewinddir(d)
again = []
while (name := read(d)) is not None: again.append(name)
# An offset is good in another reading of the same directory too.
other = libc.opendir(sys.argv[1].encode())
read(other)
libc.seekdir(other, places[15000])
if read(other) != names[15000]: wrong += 1
print(json.dumps([wrong, names == again, len(names)]))`;
        expect(await python(source, inside("many"))).toEqual([0, true, 20_002]);
      });

      it("have names of 255 bytes, and names with newline, backslash and non-ASCII text", async () => {
        expect((await run("stat", ["-c", "%s", inside(`names/${longName}`)])).stdout).toBe("1\n");
        expect((await run("cat", [inside(`names/${unicodeName}`)])).stdout).toBe(
          layer.subarray(16, 24).toString("latin1"),
        );
        const tooLong = await run("stat", [inside(`names/${longName}n`)]);
        expect(tooLong.stderr).toContain("File name too long");
      });

      it.runIf(isNative)("have names that are not UTF-8", async () => {
        const source = `
import os, sys, json
m = os.fsencode(sys.argv[1])
print(json.dumps([[name.hex() for name in sorted(os.listdir(m))], os.stat(m + b"/caf\\xe9").st_size,
  os.listdir(m + b"/caf\\xe9 directory")[0].decode(), os.stat(m + b"/really \\xef\\xbf\\xbd").st_size]))`;
        const hex = (text: string) => Buffer.from(text, "latin1").toString("hex");
        const [names, ...rest] = await python<unknown[]>(source, inside("names"));
        expect(names).toContain(hex("caf\xe9"));
        expect(names).toContain(hex("really \xef\xbf\xbd"));
        expect(rest).toEqual([1, "inside", 1]);
      });

      it.runIf(!isNative)(
        "leave out, and do not find, names that are not UTF-8, and the log counts them in one line",
        async () => {
          const { stdout } = await run("ls", ["-1", "-b", inside("names")]);
          expect(stdout.trim().split("\n")).toHaveLength(2);
          expect(
            await errnos(mnt, [
              "os.stat(os.fsencode(m) + b'/names/caf\\xe9')",
              "os.stat(os.fsencode(m) + b'/names/caf\\xe9 directory/inside')",
              // What the bytes of the first would turn into on the way must not lead to a file that really has this name.
              "os.stat(os.fsencode(m) + b'/names/really \\xe9')",
              "os.stat(os.fsencode(m) + b'/names/really \\xef\\xbf\\xbd')",
            ]),
          ).toEqual([ENOENT, ENOENT, ENOENT, ENOENT]);
          const warnings = server.logs.filter((line) => line.level === "warn");
          expect(warnings).toHaveLength(1);
          expect(warnings[0]).toMatchObject({ details: { names: 3, targets: 1, example: "caf\\xe9" } });
        },
      );
    });

    describe("symbolic links", () => {
      it("have their targets as stored, up to 4095 bytes", async () => {
        const source =
          "import os,sys,json;print(json.dumps([os.readlink(sys.argv[1]+'/'+n) for n in ('plain','absolute','long','utf8')]))";
        expect(await python(source, inside("links"))).toEqual(["../bin/id", "/nowhere", longTarget, "☃"]);
        expect((await run("stat", ["-c", "%s %h %A", inside("links/long")])).stdout).toBe(
          "4095 1 lrwxrwxrwx\n",
        );
      });

      it.runIf(isNative)("have targets that are not UTF-8", async () => {
        const source =
          "import os,sys,json;print(json.dumps(os.readlink(os.fsencode(sys.argv[1]) + b'/latin1').hex()))";
        expect(await python(source, inside("links"))).toBe(Buffer.from("caf\xe9", "latin1").toString("hex"));
        expect(await errnos(mnt, ["os.readlink(m + '/files/plain')"])).toEqual([EINVAL]);
      });

      it.runIf(!isNative)(
        "cannot be read where the target is not UTF-8, rather than leading elsewhere",
        async () => {
          expect(
            await errnos(mnt, ["os.readlink(m + '/links/latin1')", "os.readlink(m + '/files/plain')"]),
          ).toEqual([EILSEQ, EINVAL]);
        },
      );
    });
  });
