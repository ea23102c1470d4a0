/** What a holder survives: packets that are none, halves of conversations, many connections, and no descriptor left. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, openSync, statSync } from "node:fs";
import { chmod, mkdir } from "node:fs/promises";
import path from "node:path";
import fc from "fast-check";
import { afterEach, beforeAll, expect, it } from "vitest";
import { HolderLink } from "../../src/holder/holder-link.js";
import { decodePacket, encodePacket } from "../../src/holder/holder-protocol.js";
import { loadNative } from "../../src/native/load.js";
import { makeTempDir } from "../support/temp-dir.js";
import { findMount, isAlive, openFiles, run, until } from "./kept-server.js";

const native = loadNative();
const verbs = [
  "HELLO",
  "TAKE",
  "MOUNT",
  "HOLD",
  "KEEP",
  "RELEASE",
  "BEAT",
  "READY",
  "LEAVE",
  "LETGO",
  "",
  "none",
];
/** Version, watchdogMs, abortAfterRestarts, not to be started again, log file, file, arguments. */
const hello = ["1", "0", "0", "0", "", "", "0"];
const running: ChildProcess[] = [];
const mounts: string[] = [];

/** With AddressSanitizer and UndefinedBehaviorSanitizer: the first mistake ends it. */
const program = path.resolve(import.meta.dirname, "../../native/build/sanitized/skim-holder");

beforeAll(() => {
  const script = path.resolve(import.meta.dirname, "../../scripts/build-sanitized.mjs");
  execFileSync(process.execPath, [script, "--holder"], { stdio: "inherit" });
});

afterEach(async () => {
  for (const child of running.splice(0)) child.kill("SIGKILL");
  for (const mountpoint of mounts.splice(0))
    while (findMount(mountpoint)) await run("umount", ["-l", mountpoint]);
});

/** A holder that is our own child, so that its end is seen. */
async function startHolder(prefix: readonly string[] = []) {
  const dir = await makeTempDir("holder");
  const [file, ...args] = [...prefix, program, dir];
  const child = spawn(file!, args, { stdio: ["ignore", "pipe", "pipe"] });
  running.push(child);
  let log = "";
  child.stderr!.on("data", (text) => {
    log += text;
  });
  await new Promise((resolve, reject) => {
    child.stdout!.once("data", resolve);
    child.once("close", () => reject(new Error(`the holder has ended: ${log}`)));
  });
  return { dir, child, pid: child.pid!, log: () => log };
}

/** One packet of ours, and what is answered; undefined where the connection is closed instead. */
class Client {
  readonly #socket: number;
  readonly #packets: (string[] | undefined)[] = [];
  #wake = () => {};
  readonly #handle: ReturnType<typeof native.socketWatch>;

  constructor(dir: string) {
    this.#socket = native.socketConnect(path.join(dir, "holder.sock"), false);
    this.#handle = native.socketWatch(this.#socket, (packet, descriptor) => {
      if (descriptor >= 0) closeSync(descriptor);
      this.#packets.push(packet ? decodePacket(packet) : undefined);
      this.#wake();
    });
  }

  send(bytes: Uint8Array, descriptor = -1): void {
    native.socketSend(this.#socket, bytes, descriptor);
  }

  async next(): Promise<string[] | undefined> {
    while (this.#packets.length === 0)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.#packets.shift();
  }

  async ask(...fields: string[]): Promise<string[] | undefined> {
    this.send(encodePacket(fields));
    return await this.next();
  }

  close(): void {
    native.socketClose(this.#handle);
  }
}

it("listens for its own user alone", async () => {
  const { dir } = await startHolder();
  expect(statSync(path.join(dir, "holder.sock")).mode & 0o777).toBe(0o600);
  await chmod(dir, 0o755);
  await chmod(path.join(dir, "holder.sock"), 0o666);
  const source = `
import os, socket, sys
os.setuid(65534)
peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
peer.connect(sys.argv[1])
try:
    peer.send(b"HELLO\\x001\\x001\\x000\\x000\\x000\\0\\0\\x000\\0")
    print(peer.recv(100))
except OSError as error: print(type(error).__name__)`;
  const { stdout } = await run("python3", ["-c", source, path.join(dir, "holder.sock")]);
  expect(stdout.trim()).toMatch(/^(b''|ConnectionResetError|BrokenPipeError)$/);
});

it("refuses what is no request, and what only a server may ask", async () => {
  const { dir } = await startHolder();
  const client = new Client(dir);
  const refused = async (code: string, ...fields: string[]) =>
    expect((await client.ask(...fields))?.slice(0, 4)).toEqual([
      "ERROR",
      fields[1] ?? "",
      expect.any(String),
      code,
    ]);
  for (const verb of ["TAKE", "MOUNT", "HOLD", "KEEP", "RELEASE", "READY", "LEAVE", "none", ""])
    await refused("EPERM", verb, "7");
  await refused("EINVAL", "HELLO", "7");
  await refused("EINVAL", "HELLO", "7", "2", ...hello.slice(1));
  await refused("EINVAL", "HELLO", "7", "1", "-1", ...hello.slice(2));
  await refused("EINVAL", "HELLO", "7", "1", "0", "0", "1", "", "file", "100", "only one");
  expect(await client.ask("HELLO", "8", ...hello)).toEqual(["WELCOME", "8", "1", "0", "0"]);
  await refused("ENOSYS", "none", "9");
  await refused("EINVAL", "HELLO", "9", ...hello);
  await refused("EINVAL", "TAKE", "9", "x");
  expect(await client.ask("TAKE", "9", "0")).toEqual(["END", "9"]);
  for (const id of ["", "-a", "a/b", "a".repeat(65), ".."])
    await refused("EINVAL", "MOUNT", "10", id, "/nowhere", "", "0", "");
  await refused("EINVAL", "MOUNT", "10", "a", "relative", "", "0", "");
  await refused("EINVAL", "MOUNT", "10", "a", "/nowhere", "", "2", "");
  await refused("EINVAL", "MOUNT", "10", "a", "/nowhere", "", "0", "n".repeat(4097));
  await refused("ENOENT", "MOUNT", "10", "a", "/nowhere/at/all", "", "0", "");
  await refused("ENOENT", "KEEP", "11", "a", "00", "1");
  await refused("EBADF", "HOLD", "12", "a", "/nowhere", "", "", "0");
  // Something else than /dev/fuse.
  const other = openSync("/dev/null", "r");
  client.send(encodePacket(["HOLD", "13", "a", "/nowhere", "", "", "0"]), other);
  closeSync(other);
  expect((await client.next())?.[3]).toBe("EBADF");
  expect(await client.ask("RELEASE", "14", "never kept")).toEqual(["OK", "14"]);
  client.close();
});

it("keeps what it is given as it is, and gives it to whoever comes next", async () => {
  const { dir } = await startHolder();
  const mountpoint = path.join(dir, "mount");
  await mkdir(mountpoint);
  mounts.push(mountpoint);
  const note = `{"a":"\\"${"ü".repeat(1000)}"}`;
  const first = new Client(dir);
  await first.ask("HELLO", "1", ...hello);
  expect(await first.ask("MOUNT", "2", "one", mountpoint, "source, with=options", "1", note)).toEqual([
    "MOUNTED",
    "2",
  ]);
  expect((await first.ask("MOUNT", "3", "one", mountpoint, "source", "1", ""))?.[3]).toBe("EEXIST");
  const mount = findMount(mountpoint)!;
  expect(mount).toMatchObject({ type: "fuse.skim", source: "source, with=options" });
  expect(mount.options).toContain("ro");
  expect(mount.options).not.toContain("nosuid");
  expect(mount.superOptions).toEqual(
    expect.arrayContaining(["user_id=0", "group_id=0", "default_permissions", "allow_other"]),
  );
  expect(await first.ask("KEEP", "4", "one", "abcd", String(mount.deviceMinor))).toEqual(["OK", "4"]);
  first.close();
  const second = new Client(dir);
  expect((await second.ask("HELLO", "1", ...hello))?.[4]).toBe("1");
  expect(await second.ask("TAKE", "2", "0")).toEqual([
    "HELD",
    "2",
    "one",
    mountpoint,
    note,
    "abcd",
    String(mount.deviceMinor),
  ]);
  second.close();
});

it("survives random packets, with descriptors and without, and keeps what it holds", async () => {
  const { dir, pid, child } = await startHolder();
  const mountpoint = path.join(dir, "mount");
  await mkdir(mountpoint);
  mounts.push(mountpoint);
  const server = new Client(dir);
  await server.ask("HELLO", "1", ...hello);
  expect(await server.ask("MOUNT", "2", "one", mountpoint, "source", "1", "")).toEqual(["MOUNTED", "2"]);
  // Its connection and its pidfd go in the end.
  const before = openFiles(pid).length;
  // Not RELEASE of what is kept, nor HELLO, which takes the place of the server.
  const field = fc.oneof(
    fc.constantFrom(...verbs.slice(1)),
    fc.string({ maxLength: 20 }),
    fc.nat().map(String),
    fc.constantFrom("-1", "99999999999999999999", "one/", "/nowhere", "x".repeat(70_000)),
  );
  const packet = fc.oneof(
    fc.array(field, { maxLength: 12 }).map((fields) => encodePacket(fields)),
    fc.uint8Array({ minLength: 1, maxLength: 300 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(packet, fc.boolean()), { maxLength: 8 }), async (packets) => {
      const client = new Client(dir);
      const descriptor = openSync("/dev/null", "r");
      try {
        for (const [bytes, withDescriptor] of packets) client.send(bytes, withDescriptor ? descriptor : -1);
      } catch {
        // It has closed the connection.
      }
      closeSync(descriptor);
      client.close();
      expect(isAlive(pid)).toBe(true);
    }),
    { numRuns: 200 },
  );
  // As the server too, which says what its part allows.
  for (const [bytes] of fc.sample(fc.tuple(packet), 100)) {
    if (bytes.at(-1) !== 0) continue;
    try {
      server.send(bytes);
    } catch {
      // Its queue is full, or it was told LEAVE.
    }
  }
  server.close();
  await until(
    () => openFiles(pid).length === before - 2,
    () => openFiles(pid).join("\n"),
  );
  expect(openFiles(pid).filter((file) => file === "/dev/fuse")).toHaveLength(1);
  expect(child.exitCode).toBeNull();
});

it("takes a hundred connections that say nothing, and a server after them", async () => {
  const { dir, pid } = await startHolder();
  const idle = Array.from({ length: 100 }, () => new Client(dir));
  const server = new Client(dir);
  expect((await server.ask("HELLO", "1", ...hello))?.[0]).toBe("WELCOME");
  // More of them do not drive the server out.
  const more = Array.from({ length: 100 }, () => new Client(dir));
  expect(await server.ask("TAKE", "2", "0")).toEqual(["END", "2"]);
  expect(openFiles(pid).length).toBeLessThan(50);
  for (const client of [...idle, ...more, server]) client.close();
});

it("without a descriptor left turns connections away, mounts nothing, and goes on when there are some", async () => {
  const { dir, pid, log } = await startHolder(["prlimit", "--nofile=12:12"]);
  const mountpoint = path.join(dir, "mount");
  await mkdir(mountpoint);
  mounts.push(mountpoint);
  const server = new Client(dir);
  expect((await server.ask("HELLO", "1", ...hello))?.[0]).toBe("WELCOME");
  const others = Array.from({ length: 10 }, () => new Client(dir));
  await until(() => log().includes("no descriptor is left"), log);
  expect((await server.ask("MOUNT", "2", "one", mountpoint, "source", "1", ""))?.slice(3)).toEqual([
    "EMFILE",
    "open",
  ]);
  expect(findMount(mountpoint)).toBeUndefined();
  for (const client of others) client.close();
  await until(() => openFiles(pid).length < 12);
  expect(await server.ask("MOUNT", "3", "one", mountpoint, "source", "1", "")).toEqual(["MOUNTED", "3"]);
  server.close();
});

it("two that are started for one directory end in one", async () => {
  const first = await startHolder();
  const others = Array.from({ length: 5 }, () =>
    spawn(program, [first.dir], { stdio: ["ignore", "pipe", "inherit"] }),
  );
  running.push(...others);
  const ends = await Promise.all(
    others.map((child) => new Promise((resolve) => child.once("close", resolve))),
  );
  expect(ends).toEqual([0, 0, 0, 0, 0]);
  expect(isAlive(first.pid)).toBe(true);
  // Where the one before was killed, its socket is there and nobody listens.
  first.child.kill("SIGKILL");
  await until(() => !isAlive(first.pid));
  const next = Array.from({ length: 5 }, () =>
    spawn(program, [first.dir], { stdio: ["ignore", "pipe", "ignore"] }),
  );
  running.push(...next);
  await Promise.all(next.map((child) => new Promise((resolve) => child.stdout!.once("data", resolve))));
  await until(() => next.filter((child) => child.exitCode === null).length === 1);
  const client = new Client(first.dir);
  expect((await client.ask("HELLO", "1", ...hello))?.[0]).toBe("WELCOME");
  client.close();
});

it("a holder that does not answer fails a request in its time, and takes no thread", async () => {
  const { dir, child } = await startHolder();
  child.kill("SIGSTOP");
  const link = HolderLink.connect(dir, native, () => {})!;
  await expect(link.request("HELLO", hello, { timeoutMs: 50 })).rejects.toThrow(
    "the holder has not answered HELLO",
  );
  child.kill("SIGCONT");
  link.close();
});
