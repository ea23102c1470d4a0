/** How mounts begin and end: by us, by others, with users, in the middle of reads, and where nothing can be mounted at all. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { constants } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { findMount, parseMountTable, readMountTable } from "../../src/fuse/mount-table.js";
import { directory, file } from "../archive/sample-archive.js";
import { engines } from "../support/engines.js";
import { endServers, FuseServer, makeImage, python, run, type ServerOptions } from "../support/fuse-mount.js";
import { makeTempDir } from "../support/temp-dir.js";

const { EIO } = constants.errno;
const MiB = 1024 * 1024;
// Spans of 1 MiB: the first one holds the small file, the others the large ones. An engine that fetches by spans must not wait for the large
// files when it reads the small one.
const layer = Buffer.alloc(3 * MiB, "The bytes of a layer. ");
const largeOffset = MiB;
const largeBytes = 2 * MiB;
const largeFiles = layer.subarray(largeOffset);

for (const engine of engines)
  describe(`engine ${engine}`, () => {
    let dir = "";
    let image: { engine: string; archive: string; layers: string[]; mountpoint: string };
    let ownFusectl = false;
    const children: ChildProcess[] = [];

    beforeAll(async () => {
      dir = await makeTempDir("session");
      await chmod(dir, 0o755);
      const large = Object.fromEntries(
        Array.from({ length: 80 }, (_, i) => [`large${i}`, file(largeOffset, largeBytes)]),
      );
      image = {
        engine,
        ...(await makeImage(
          dir,
          directory({ small: file(0, 22), sub: directory({ x: file(0, 1) }), ...large }),
          layer,
        )),
      };
      if (!findMount("/sys/fs/fuse/connections"))
        ownFusectl = (await run("mount", ["-t", "fusectl", "none", "/sys/fs/fuse/connections"])).code === 0;
    });

    afterEach(async () => {
      for (const child of children.splice(0)) {
        child.kill("SIGKILL");
        if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      }
      await endServers();
      expect(findMount(image.mountpoint)).toBeUndefined();
    });

    afterAll(async () => {
      if (ownFusectl) await run("umount", ["/sys/fs/fuse/connections"]);
    });

    /** Not those of other tests that run at the same time. */
    const mountsHere = () => readMountTable().filter((entry) => entry.mountpoint.startsWith(`${dir}/`));

    const inside = (name: string) => path.join(image.mountpoint, name);

    /** A process that opens a file, says so, and on each line it is given reads 4 KiB from where that says; answers the errno or 0. */
    async function holdOpen(
      name: string,
    ): Promise<{ child: ChildProcess; read(offset: number): Promise<string> }> {
      const source = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
for line in sys.stdin:
    try: print(len(os.pread(fd, 4096, int(line))), flush=True)
    except OSError as error: print(-error.errno, flush=True)`;
      const child = spawn("python3", ["-c", source, inside(name)], { stdio: ["pipe", "pipe", "inherit"] });
      children.push(child);
      const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
      const line = async () => String((await lines.next()).value);
      expect(await line()).toBe("open");
      return {
        child,
        read: (offset) => {
          child.stdin!.write(`${offset}\n`);
          return line();
        },
      };
    }

    async function abortConnection(): Promise<void> {
      const { deviceMinor } = findMount(image.mountpoint)!;
      await writeFile(`/sys/fs/fuse/connections/${deviceMinor}/abort`, "1");
    }

    describe("a mount ends", () => {
      it("when we unmount it, and then nothing keeps the serving process", async () => {
        const server = await FuseServer.mount(image);
        expect((await run("stat", ["-c", "%i", image.mountpoint])).stdout).toBe("1\n");
        expect(await server.send("unmount")).not.toHaveProperty("error");
        expect(findMount(image.mountpoint)).toBeUndefined();
        expect(await server.exited).toBe(0);
        expect(await readdir(image.mountpoint)).toEqual([]);
        expect(server.stderr).toBe("");
      });

      it("when somebody else unmounts it", async () => {
        const server = await FuseServer.mount(image);
        expect((await run("umount", [image.mountpoint])).code).toBe(0);
        await server.ended;
        expect(await server.exited).toBe(0);
      });

      it("when the last file is closed, if it was detached lazily: until then it is served", async () => {
        const server = await FuseServer.mount(image);
        const holder = await holdOpen("large0");
        expect((await run("umount", ["-l", image.mountpoint])).code).toBe(0);
        expect(findMount(image.mountpoint)).toBeUndefined();
        expect(await holder.read(1_000_000)).toBe("4096");
        const { error } = await server.send("unmount");
        expect(error).toMatchObject({ code: "IN_USE" });
        expect(await holder.read(1_500_000)).toBe("4096");
        holder.child.kill();
        expect(await server.exited).toBe(0);
      });

      it("by force when it was detached lazily and is still in use", async () => {
        const server = await FuseServer.mount(image);
        const holder = await holdOpen("large0");
        await run("umount", ["-l", image.mountpoint]);
        expect(await server.send("unmount", { force: true })).not.toHaveProperty("error");
        expect(Number(await holder.read(1_000_000))).toBeLessThan(0);
        expect(await server.exited).toBe(0);
      });

      it("when its connection is aborted; unmounting then removes the dead mount", async () => {
        const server = new FuseServer({ ...image, idle: true });
        expect(await server.failure()).toBeUndefined();
        await server.send("mount");
        await abortConnection();
        const { error } = await server.send("unmount");
        expect(error).toBeUndefined();
        await server.ended;
        expect(findMount(image.mountpoint)).toBeUndefined();
        await server.send("end");
        expect(await server.exited).toBe(0);
      });

      it("when its connection is aborted while reads wait for a registry: they are given up", async () => {
        const server = new FuseServer({ ...image, idle: true });
        expect(await server.failure()).toBeUndefined();
        await server.send("mount");
        await server.send("content", { kind: "hold", layerOffset: largeOffset });
        const holder = await holdOpen("large0");
        const reading = holder.read(0);
        await untilReadsWait(server, 1);
        await abortConnection();
        await server.ended;
        expect(await reading).toMatch(/^-/);
        // The mount is dead, and still there; somebody even has a file open in it.
        expect(findMount(image.mountpoint)?.type).toBe("fuse.skim");
        expect((await server.send("unmount")).error).toMatchObject({ code: "IN_USE" });
        expect(await server.send("unmount", { force: true })).not.toHaveProperty("error");
        expect(findMount(image.mountpoint)).toBeUndefined();
        await server.send("end");
        expect(await server.exited).toBe(0);
      });
    });

    describe("unmounting", () => {
      it("a mount that is in use is refused, names who uses it, and harms nobody", async () => {
        const server = await FuseServer.mount(image);
        const holder = await holdOpen("large1");
        const { error } = await server.send("unmount");
        expect(error.code).toBe("IN_USE");
        expect(error.message).toContain(`process ${holder.child.pid} (python3) has a file open`);
        expect(await holder.read(123_456)).toBe("4096");
        holder.child.kill();
        await once(holder.child, "exit");
        await server.close();
      });

      it("names processes whose working directory is in the mount, and mounts on top of it", async () => {
        const server = await FuseServer.mount(image);
        const sleeper = spawn("sleep", ["60"], { cwd: inside("sub") });
        children.push(sleeper);
        await once(sleeper, "spawn");
        await run("mount", ["-t", "tmpfs", "none", inside("sub")]);
        const { error } = await server.send("unmount");
        expect(error.message).toContain(`process ${sleeper.pid} (sleep) has its working directory there`);
        expect(error.message).toContain(`tmpfs is mounted on ${inside("sub")}`);
        await run("umount", [inside("sub")]);
        sleeper.kill();
        await once(sleeper, "exit");
        await server.close();
      });

      it("never takes away what somebody has mounted over it", async () => {
        const server = await FuseServer.mount(image);
        await run("mount", ["-t", "tmpfs", "on top", image.mountpoint]);
        for (const force of [false, true]) {
          const { error } = await server.send("unmount", { force });
          expect(error).toMatchObject({ code: "IN_USE" });
          expect(error.message).toContain("on top");
        }
        expect(findMount(image.mountpoint)?.type).toBe("tmpfs");
        await run("umount", [image.mountpoint]);
        await server.close();
      });

      it("by force ends those who use it with an error, at once", async () => {
        const server = await FuseServer.mount(image);
        const holder = await holdOpen("large2");
        expect(await server.send("unmount", { force: true })).not.toHaveProperty("error");
        expect(Number(await holder.read(1_000_000))).toBeLessThan(0);
        expect(await server.exited).toBe(0);
      });

      it("after the end takes nothing away from who has mounted there since", async () => {
        const first = new FuseServer({ ...image, idle: true });
        expect(await first.failure()).toBeUndefined();
        await first.send("mount");
        await run("umount", [image.mountpoint]);
        await first.ended;
        // Another server, which gets the numbers that the first mount had.
        const second = await FuseServer.mount(image);
        expect(await first.send("unmount")).not.toHaveProperty("error");
        expect((await run("cat", [inside("small")])).code).toBe(0);
        await second.close();
        await first.send("end");
        expect(await first.exited).toBe(0);
      });

      it("eight times at once is no error", async () => {
        // An idle server waits for commands after the end of its mount.
        const server = new FuseServer({ ...image, idle: true });
        expect(await server.failure()).toBeUndefined();
        await server.send("mount");
        const answers = await Promise.all(Array.from({ length: 8 }, () => server.send("unmount")));
        for (const answer of answers) expect(answer).not.toHaveProperty("error");
        await server.send("end");
        expect(await server.exited).toBe(0);
      });

      it("does not wait for reads that wait for a registry and have no reader any more", async () => {
        const server = await FuseServer.mount(image);
        await server.send("content", { kind: "hold", layerOffset: largeOffset });
        const holder = await holdOpen("large3");
        void holder.read(0).catch(() => {});
        await untilReadsWait(server, 1);
        // A killed reader does not hang, although its read has no answer.
        holder.child.kill("SIGKILL");
        await once(holder.child, "exit");
        await server.close();
      });
    });

    describe("content that is slow or gone", () => {
      it("holds up nobody who does not read it", async () => {
        const server = await FuseServer.mount(image);
        await server.send("content", { kind: "hold", layerOffset: largeOffset });
        const readers = Array.from({ length: 40 }, (_, i) =>
          run("head", ["-c", "4096", inside(`large${i}`)]),
        );
        await untilReadsWait(server, 40);
        expect((await run("cat", [inside("small")])).stdout).toBe("The bytes of a layer. ");
        expect((await run("find", [image.mountpoint, "-printf", "."])).stdout).toHaveLength(84);
        await server.send("content", { kind: "serve" });
        for (const { stdout } of await Promise.all(readers))
          expect(stdout === largeFiles.subarray(0, 4096).toString("latin1")).toBe(true);
        await server.close();
      });

      it("gives readers its errno, remembers nothing, and is good again when it is back", async () => {
        const server = await FuseServer.mount(image);
        const readErrno = () =>
          python<number>(
            "import sys\ntry: print(len(open(sys.argv[1],'rb').read()))\nexcept OSError as error: print(error.errno)",
            inside("small"),
          );
        await server.send("content", { kind: "fail", code: "REGISTRY_UNAVAILABLE" });
        expect(await readErrno()).toBe(EIO);
        await server.send("content", { kind: "fail", code: "AUTH_FAILED" });
        expect(await readErrno()).toBe(EIO);
        expect((await run("ls", [image.mountpoint])).code).toBe(0);
        await server.send("content", { kind: "serve" });
        expect(await readErrno()).toBe(22);
        expect(server.logs.filter((line) => line.message === "operation failed")[0]).toMatchObject({
          level: "warn",
          details: {
            operation: "read",
            error: "the registry is gone",
            ...(engine === "native" ? { span: 0 } : { path: "/small" }),
          },
        });
        await server.close();
      });

      it("gives no errors to the log by the thousand", async () => {
        const server = await FuseServer.mount(image);
        await server.send("content", { kind: "fail", code: "REGISTRY_UNAVAILABLE" });
        await Promise.all(
          Array.from({ length: 5 }, () => run("sh", ["-c", 'cat "$1"/large*', "sh", image.mountpoint])),
        );
        const { operations } = await server.send("stats");
        expect(operations.read).toBeGreaterThan(100);
        expect(server.logs.filter((line) => line.message === "operation failed").length).toBeLessThan(10);
        await server.close();
      });
    });

    describe("mounting", () => {
      const failureOf = async (options: Partial<ServerOptions>, command: readonly string[] = []) => {
        const before = mountsHere();
        const server = new FuseServer({ ...image, ...options }, command);
        const failure = await server.failure();
        expect(await server.exited).toBe(0);
        expect(mountsHere()).toEqual(before);
        return failure;
      };

      it("on a path that is not there, no directory, or not empty says so", async () => {
        await writeFile(path.join(dir, "plain file"), "");
        await mkdir(path.join(dir, "full/of/things"), { recursive: true });
        const cases = [
          ["not there", "there is no such directory; make it with mkdir -p"],
          ["not/there/either", "there is no such directory"],
          ["plain file", "it is not a directory"],
          ["plain file/below", "it cannot be looked at (ENOTDIR)"],
          ["full", "the directory is not empty"],
        ];
        for (const [name, found] of cases) {
          const failure = await failureOf({ mountpoint: path.join(dir, name!) });
          expect(failure?.code).toBe("MOUNT_FAILED");
          expect(failure?.message).toContain(found);
        }
      });

      it("where something is mounted already is refused, also on a mount whose server is dead", async () => {
        const first = await FuseServer.mount(image);
        expect(await failureOf({})).toMatchObject({
          code: "MOUNT_FAILED",
          message: expect.stringContaining(
            "fuse.skim (test image) is mounted there already; unmount it with umount",
          ),
        });
        expect((await run("cat", [inside("small")])).code).toBe(0);
        const dead = path.join(dir, "dead");
        await mkdir(dead);
        const killed = await FuseServer.mount({ ...image, mountpoint: dead });
        // A process that dies leaves its mount, and every stat of it fails.
        await killed.kill();
        expect((await run("stat", [dead])).code).not.toBe(0);
        expect((await failureOf({ mountpoint: dead }))?.message).toContain("is mounted there already");
        await run("umount", [dead]);
        await first.close();
      });

      it("through a symlink mounts on the directory it leads to", async () => {
        const link = path.join(dir, "link");
        await symlink(image.mountpoint, link);
        const server = await FuseServer.mount({ ...image, mountpoint: link });
        expect(findMount(image.mountpoint)?.type).toBe("fuse.skim");
        expect((await failureOf({ mountpoint: link }))?.message).toContain("is mounted there already");
        await server.close();
      });

      it("on a path with every character that mount tables escape works", async () => {
        const mountpoint = path.join(dir, 'odd\n\t\\ #, "%s" ☃');
        await mkdir(mountpoint);
        const server = await FuseServer.mount({ ...image, mountpoint, fsName: "a,b\\ c#\n☃".repeat(60) });
        expect(findMount(mountpoint)?.source).toMatch(/^a,b\\ c#\?☃/);
        expect((await run("cat", [path.join(mountpoint, "small")])).code).toBe(0);
        await server.close();
        expect(findMount(mountpoint)).toBeUndefined();
      });

      it("on a path of more than 1023 bytes works, and is refused where fuse-native would cut it", async () => {
        const deep = path.join(dir, ...Array.from({ length: 5 }, () => "d".repeat(220)));
        await mkdir(deep, { recursive: true });
        if (engine === "native") {
          const server = await FuseServer.mount({ ...image, mountpoint: deep });
          expect((await run("cat", [path.join(deep, "small")])).code).toBe(0);
          return await server.close();
        }
        const failure = await failureOf({ mountpoint: deep });
        expect(failure).toMatchObject({ code: "MOUNT_FAILED" });
        expect(failure?.message).toContain("at most 1023 bytes");
      });

      it("that is cancelled leaves nothing", async () => {
        expect(await failureOf({ abortAtOnce: true })).toMatchObject({ code: "CANCELLED" });
        const soon = await failureOf({ abortSoon: true });
        if (soon) expect(soon).toMatchObject({ code: "CANCELLED" });
        else await run("umount", [image.mountpoint]);
      });

      const asNobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

      it("by somebody who may not open /dev/fuse names the device and what to do", async () => {
        const canOpen = await run(asNobody[0]!, [...asNobody.slice(1), "test", "-w", "/dev/fuse"]);
        if (canOpen.code === 0) return;
        const failure = await failureOf({}, asNobody);
        expect(failure).toMatchObject({ code: "ENVIRONMENT" });
        expect(failure?.message).toContain("/dev/fuse");
        expect(failure?.message).toContain("run as root");
      });

      // A mount namespace of its own, in which everybody may open /dev/fuse, as on most machines.
      const nobodyWithFuse = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mknod -m 666 "$0" c 10 229 && mount --bind "$0" /dev/fuse && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"',
      ];

      it.runIf(engine === "native")("by somebody who is not root goes through fusermount3", async () => {
        const own = path.join(dir, "nobody's");
        await mkdir(own);
        await chown(own, 65_534, 65_534);
        const options = { ...image, mountpoint: own, allowOther: false };
        const server = new FuseServer(options, [...nobodyWithFuse, path.join(dir, "fuse 1")]);
        expect(await server.failure()).toBeUndefined();
        const inServer = ["--target", String(server.pid), "--mount"];
        const asOwner = await run("nsenter", [...inServer, ...asNobody, "cat", path.join(own, "small")]);
        expect(asOwner.stdout).toBe("The bytes of a layer. ");
        // Not even root gets in without allow_other.
        expect((await run("nsenter", [...inServer, "cat", path.join(own, "small")])).code).not.toBe(0);
        const mount = parseMountTable(await readFile(`/proc/${server.pid}/mountinfo`)).find(
          ({ mountpoint }) => mountpoint === own,
        );
        expect(mount).toMatchObject({ type: "fuse.skim", source: "test image" });
        expect(mount?.options).toEqual(expect.arrayContaining(["ro", "nosuid", "nodev"]));
        await server.close();
      });

      it.runIf(engine === "native")(
        "to others by somebody who is not root says what must be allowed",
        async () => {
          const configured = await readFile("/etc/fuse.conf", "utf8").catch(() => "");
          if (/^\s*user_allow_other/m.test(configured)) return;
          const failure = await failureOf({}, [...nobodyWithFuse, path.join(dir, "fuse 2")]);
          expect(failure).toMatchObject({ code: "MOUNT_FAILED" });
          expect(failure?.message).toContain("user_allow_other");
        },
      );

      it("again at once, after somebody else has unmounted, ends the first session though its descriptor is used again", async () => {
        const server = new FuseServer({ ...image, idle: true });
        expect(await server.failure()).toBeUndefined();
        await server.send("mount");
        await run("umount", [image.mountpoint]);
        await server.send("mount");
        await server.ended;
        expect((await run("cat", [inside("small")])).code).toBe(0);
        await server.send("unmount");
        await server.send("end");
        expect(await server.exited).toBe(0);
      });

      it("twenty times over in one process leaves no mount, thread or descriptor", async () => {
        const server = new FuseServer({ ...image, idle: true });
        expect(await server.failure()).toBeUndefined();
        expect(await server.send("loop", { rounds: 2 })).not.toHaveProperty("error");
        const before = await server.send("footprint");
        expect(await server.send("loop", { rounds: 20 })).not.toHaveProperty("error");
        const after = await server.send("footprint");
        expect(after.descriptors).toBe(before.descriptors);
        expect(after.threads).toBe(before.threads);
        expect(findMount(image.mountpoint)).toBeUndefined();
        await server.send("end");
        expect(await server.exited).toBe(0);
      });
    });

    /** Reads are under way in the content: nothing else tells when the kernel has sent them. */
    async function untilReadsWait(server: FuseServer, count: number): Promise<void> {
      for (let waiting = 0; waiting < count; ) waiting = (await server.send("stats")).waiting;
    }
  });
