/** Connections that a service manager keeps (fake-systemd.py plays it). */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterEach, expect, it } from "vitest";
import { destroyPlaces, findMount, KeptPlace, kill, run, until } from "./kept-server.js";

const script = path.resolve(import.meta.dirname, "../support/fuse-server.mjs");
const managers: Manager[] = [];

afterEach(async () => {
  for (const manager of managers.splice(0)) manager.destroy();
  await destroyPlaces();
});

interface ManagerEvent {
  readonly event: "started" | "told" | "ended";
  readonly pid?: number;
  readonly code?: number;
  readonly fields?: Readonly<Record<string, string>>;
  readonly descriptors?: number;
  readonly stored: readonly string[];
}

class Manager {
  readonly events: ManagerEvent[] = [];
  readonly #child: ChildProcess;

  constructor(place: KeptPlace, socket: string, environment: Record<string, string>, options: object = {}) {
    const { runDir, logFile, mountpoint } = place;
    const keeper = { runDir, logFile, mounts: { one: mountpoint }, ...options };
    const request = JSON.stringify({ ...place.serverOptions(), keeper });
    const fake = path.resolve(import.meta.dirname, "fake-systemd.py");
    this.#child = spawn("python3", [fake, socket, process.execPath, script, request], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, ...environment },
    });
    createInterface({ input: this.#child.stdout! }).on("line", (line) => this.events.push(JSON.parse(line)));
    managers.push(this);
  }

  say(command: "start" | "kill"): void {
    this.#child.stdin!.write(`${command}\n`);
  }

  /** Waits for the `count`th event for which this holds. */
  async event(holds: (event: ManagerEvent) => boolean, count = 1): Promise<ManagerEvent> {
    const found = () => this.events.filter(holds)[count - 1];
    await until(
      () => found() !== undefined,
      () => JSON.stringify(this.events, null, 1),
    );
    return found()!;
  }

  async ready(count = 1): Promise<ManagerEvent> {
    return await this.event(({ fields }) => fields?.READY === "1", count);
  }

  /** Every service that was started, and the manager with what it keeps. */
  destroy(): void {
    this.#child.kill("SIGKILL");
    for (const { pid } of this.events) if (pid) kill(pid, "SIGKILL");
  }
}

it("descriptors in the manager's store outlive the server, which is told apart from none by what it is told", async () => {
  const place = await KeptPlace.make("stored");
  const manager = new Manager(place, path.join(place.runDir, "notify"), { FDSTORE: "100" });
  manager.say("start");
  const ready = await manager.ready();
  expect(ready.stored).toEqual(["skim-held-one"]);
  expect(ready.fields).toMatchObject({ STATUS: "serves 1 mounts", MAINPID: String(manager.events[0]!.pid) });
  // Stored before it was mounted, and not polled.
  const store = manager.events.find(({ fields }) => fields?.FDSTORE)!;
  expect(store).toMatchObject({ descriptors: 1, fields: { FDNAME: "skim-held-one", FDPOLL: "0" } });
  // No holder.
  expect(readdirSync(place.runDir)).not.toContain("holder.sock");
  const reader = await place.read();
  for (let round = 2; round < 6; round++) {
    manager.say("kill");
    await manager.event(({ event }) => event === "ended", round - 1);
    manager.say("start");
    await manager.ready(round);
    await reader.more();
  }
  expect((await reader.stop()).failures).toEqual([]);
  await manager.event(({ fields }) => fields?.WATCHDOG === "1", 2);
  // The mount's end is the end of what is kept.
  expect((await run("umount", [place.mountpoint])).code).toBe(0);
  const removed = await manager.event(({ fields }) => fields?.FDSTOREREMOVE === "1");
  expect(removed.stored).toEqual([]);
  const stopping = await manager.event(({ fields }) => fields?.STOPPING === "1");
  expect(stopping.stored).toEqual([]);
  expect(readdirSync(path.join(place.runDir, "held"))).toEqual([]);
});

it("works with an abstract socket, and with a manager that is too old to say that it has a store", async () => {
  const place = await KeptPlace.make("abstract");
  const manager = new Manager(place, `@skim-test-${process.pid}-${Date.now()}`, { SKIM_FD_STORE: "1" });
  manager.say("start");
  expect((await manager.ready()).stored).toEqual(["skim-held-one"]);
  expect((await run("ls", [place.mountpoint])).stdout).toContain("file0");
});

it("what a kill between two steps has left is mended by the next server", async () => {
  const place = await KeptPlace.make("mended");
  const manager = new Manager(place, path.join(place.runDir, "notify"), { FDSTORE: "100" });
  manager.say("start");
  await manager.ready();
  manager.say("kill");
  await manager.event(({ event }) => event === "ended");
  const held = path.join(place.runDir, "held");
  // A file that was written, and nothing stored; one that was being written; and a result of FUSE_INIT that was never noted.
  writeFileSync(path.join(held, "two.json"), JSON.stringify({ mountpoint: "/nowhere", note: "" }));
  writeFileSync(path.join(held, "three.json.new"), "{");
  writeFileSync(
    path.join(held, "one.json"),
    JSON.stringify({ mountpoint: place.mountpoint, note: '{"about":"one"}' }),
  );
  manager.say("start");
  await manager.ready(2);
  expect(readdirSync(held)).toEqual(["one.json"]);
  expect((await run("cat", [path.join(place.mountpoint, "file1")])).code).toBe(0);
  // A mount that has ended while nobody served it.
  manager.say("kill");
  await manager.event(({ event }) => event === "ended", 2);
  expect((await run("umount", ["-l", place.mountpoint])).code).toBe(0);
  manager.say("start");
  await manager.ready(3);
  expect(findMount(place.mountpoint)).toBeDefined();
  expect((await run("ls", [place.mountpoint])).stdout).toContain("file0");
});

it("a manager without a store is told all the same, and a holder keeps the descriptors and starts nobody", async () => {
  const place = await KeptPlace.make("no-store");
  const manager = new Manager(place, path.join(place.runDir, "notify"), {});
  manager.say("start");
  await manager.ready();
  expect(readdirSync(place.runDir)).toContain("holder.sock");
  const reader = await place.read();
  manager.say("kill");
  await manager.event(({ event }) => event === "ended");
  await until(
    () => place.log().includes("the server is gone"),
    () => place.log(),
  );
  manager.say("start");
  await manager.ready(2);
  await reader.more();
  expect((await reader.stop()).failures).toEqual([]);
  expect(place.log()).not.toContain("a server is started");
  expect(manager.events.some(({ fields }) => fields?.FDSTORE)).toBe(false);
});
