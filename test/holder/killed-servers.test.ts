/** Servers that are killed under mounts in use, and the holder that starts others in their place. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, expect, it } from "vitest";
import { destroyPlaces, findMount, isAlive, KeptPlace, kill, openFiles, run, until } from "./kept-server.js";

afterEach(destroyPlaces);

const kills = 20;

it(`readers see no error and no wrong byte while their server is killed ${kills} times`, async () => {
  const place = await KeptPlace.make("killed");
  const first = await place.serve();
  const reader = await place.read();
  kill(first.pid, "SIGKILL");
  for (let round = 1; round < kills; round++) {
    await until(
      () => place.readyServers().length > round,
      () => place.log(),
    );
    // Some reads end with this server, others are in the middle when it is killed.
    await reader.more();
    kill(place.readyServers().at(-1)!, "SIGKILL");
  }
  await reader.more();
  const { rounds, failures } = await reader.stop();
  expect(failures).toEqual([]);
  expect(rounds).toBeGreaterThan(kills);
  const servers = place.readyServers();
  expect(new Set(servers).size).toBe(servers.length);
  expect(servers.length).toBeGreaterThanOrEqual(kills);
  // The next server is told how many there have been.
  await until(
    () => place.log().includes(`"restarts":${kills},"taken":["one"]`),
    () => place.log(),
  );
});

it("a server that dies before it serves is started again, with a growing pause, until one does", async () => {
  const place = await KeptPlace.make("unready");
  const dieFile = path.join(place.runDir, "deaths left");
  const first = await place.serve({ dieFile });
  const reader = await place.read();
  writeFileSync(dieFile, "4");
  kill(first.pid, "SIGKILL");
  await until(
    () => place.readyServers().length === 2,
    () => place.log(),
  );
  await reader.more();
  expect((await reader.stop()).failures).toEqual([]);
  const started = place.logLines().filter((line) => line.msg === "a server is started");
  expect(started.map((line) => line.restarts)).toEqual([1, 2, 3, 4, 5]);
  // Each pause is part of the time between two starts: 100, 200, 400 and 800 ms behind the first, which comes at once.
  const times = started.map((line) => Date.parse(String(line.time)));
  expect(times.at(-1)! - times[0]!).toBeGreaterThanOrEqual(100 + 200 + 400 + 800);
});

it("a killed holder is followed by another that holds everything, also when the server is killed afterwards", async () => {
  const place = await KeptPlace.make("holder");
  const other = await place.addMountpoint("other mount");
  const server = await place.serve({ mounts: { one: place.mountpoint, two: other } });
  const reader = await place.read();
  for (let round = 0; round < 3; round++) {
    const before = place.holderPid();
    kill(before, "SIGKILL");
    await until(
      () => place.holderPid() !== before,
      () => place.log(),
    );
    await until(() => openFiles(place.holderPid()).filter((file) => file === "/dev/fuse").length === 2);
  }
  expect(isAlive(server.pid)).toBe(true);
  await until(
    () => place.logLines().at(-1)!.msg === "the server is ready",
    () => place.log(),
  );
  kill(server.pid, "SIGKILL");
  await until(
    () => place.log().includes('"taken":["one","two"]'),
    () => place.log(),
  );
  await reader.more();
  expect((await reader.stop()).failures).toEqual([]);
  expect((await run("ls", [other])).stdout).toContain("file0");
});

it("holder and server killed at once: readers get ENOTCONN, and nothing hangs", async () => {
  const place = await KeptPlace.make("both");
  const server = await place.serve();
  const reader = await place.read();
  // The holder cannot start another one in between.
  kill(place.holderPid(), "SIGSTOP");
  kill(server.pid, "SIGKILL");
  kill(place.holderPid(), "SIGKILL");
  await until(() => place.living().length === 0);
  await reader.more();
  expect((await reader.stop()).failures.join()).toMatch(/\((107|103), /);
  const looked = await run("ls", [place.mountpoint]);
  expect(looked.stderr).toContain("Transport endpoint is not connected");
  expect((await run("umount", [place.mountpoint])).code).toBe(0);
  // The next one begins anew.
  const next = await place.serve();
  expect((await run("ls", [place.mountpoint])).stdout).toContain("file0");
  await next.close();
});

it("a server that stands still is killed and replaced, and readers go on", async () => {
  const place = await KeptPlace.make("still");
  const first = await place.serve({ watchdogMs: 1_000 });
  const reader = await place.read();
  first.signal("SIGSTOP");
  await until(
    () => place.readyServers().length >= 2,
    () => place.log(),
  );
  await reader.more();
  expect((await reader.stop()).failures).toEqual([]);
  expect(await first.exited).toBe("SIGKILL");
  expect(place.log()).toContain("the server has not been heard of and is killed");
});

it("a server that is killed while it waits for itself is replaced before it can die, and dies then", async () => {
  const place = await KeptPlace.make("itself");
  const first = await place.serve({ watchdogMs: 2_000 });
  await first.send("content", { kind: "hold", layerOffset: 0 });
  void first.send("readOwn", { name: "file2" });
  while ((await first.send("stats")).waiting === 0);
  first.signal("SIGKILL");
  expect(await first.exited).toBe("SIGKILL");
  // Its thread was still in the kernel: neither its descriptors nor its pidfd told the holder.
  await until(
    () => place.readyServers().length >= 2,
    () => place.log(),
  );
  const told = place.logLines().map((line) => line.msg);
  expect(told.indexOf("the server has not been heard of and is killed")).toBeLessThan(
    told.indexOf("the server is gone"),
  );
  expect(told).toContain("the server has not been heard of and is killed");
  expect((await run("ls", [place.mountpoint])).stdout).toContain("file2");
});

it("a server that turns its event loop is left alone by the watchdog, however long nobody asks for anything", async () => {
  const place = await KeptPlace.make("idle");
  const server = await place.serve({ watchdogMs: 2_000 });
  await new Promise((resolve) => setTimeout(resolve, 5_000));
  expect(place.readyServers()).toEqual([server.pid]);
  expect(isAlive(server.pid)).toBe(true);
});

it("the last resort aborts a connection that servers die of, and only where it was asked for", async () => {
  const place = await KeptPlace.make("resort");
  const dieFile = path.join(place.runDir, "deaths left");
  const first = await place.serve({ dieFile, abortAfterRestarts: 3 });
  const reader = await place.read();
  writeFileSync(dieFile, "1000");
  kill(first.pid, "SIGKILL");
  await until(
    () => place.log().includes("the connection is aborted"),
    () => place.log(),
  );
  const line = place.logLines().find(({ msg }) => msg.startsWith("the connection is aborted"))!;
  expect(line).toMatchObject({ id: "one", mountpoint: place.mountpoint, restartsInVain: 3 });
  expect(line.waiting).toBeGreaterThan(0);
  await reader.more();
  expect((await reader.stop()).failures.join()).toMatch(/\((107|103), /);
});

it("an end that was planned leaves nothing: no process, socket or mount", async () => {
  const place = await KeptPlace.make("planned");
  const server = await place.serve();
  const holder = place.holderPid();
  expect(openFiles(holder).filter((file) => file === "/dev/fuse")).toHaveLength(1);
  // 0, 1 and 2, the lock, the socket and its connection, signals, a reserve, the directory, the server's pidfd, and what it holds.
  expect(openFiles(holder).length).toBe(11);
  await server.close();
  await until(
    () => place.living().length === 0,
    () => place.log(),
  );
  expect(findMount(place.mountpoint)).toBeUndefined();
  const left = (await run("ls", [place.runDir])).stdout
    .split("\n")
    .filter((name) => /^holder\.sock|^held/.test(name));
  expect(left).toEqual([]);
});

it("a holder without a server lets go of a mount that has ended, and of its last server's place", async () => {
  const place = await KeptPlace.make("ended");
  const server = await place.serve({ restarts: false });
  const holder = place.holderPid();
  kill(server.pid, "SIGKILL");
  await server.exited;
  await until(
    () => place.log().includes("the server is gone"),
    () => place.log(),
  );
  expect(isAlive(holder)).toBe(true);
  kill(holder, "SIGTERM");
  await until(
    () => place.log().includes("not ended by SIGTERM"),
    () => place.log(),
  );
  // Nobody answers, so only the kernel is asked to take it away.
  expect((await run("umount", ["-l", place.mountpoint])).code).toBe(0);
  await until(
    () => !isAlive(holder),
    () => place.log(),
  );
  expect(place.log()).toContain("the mount has ended");
});
