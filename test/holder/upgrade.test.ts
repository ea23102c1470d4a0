/** A new server that takes the place of one that serves. */
import { afterEach, expect, it } from "vitest";
import type { FuseServer } from "../support/fuse-mount.js";
import { destroyPlaces, isAlive, KeptPlace, kill, openFiles, run, until } from "./kept-server.js";

afterEach(destroyPlaces);

it("servers replace each other under readers that see no error", async () => {
  const place = await KeptPlace.make("upgrade");
  let server = await place.serve();
  const reader = await place.read();
  for (let round = 0; round < 5; round++) {
    const next = await place.serve();
    expect(await server.exited).toBe(0);
    await reader.more();
    server = next;
  }
  expect((await reader.stop()).failures).toEqual([]);
  expect(place.logLines().some((line) => line.msg === "a server is started")).toBe(false);
  await server.close();
  await until(
    () => place.living().length === 0,
    () => place.log(),
  );
});

it("a read that waits for the registry when its server lets go is answered by the next one", async () => {
  const place = await KeptPlace.make("waiting");
  const server = await place.serve();
  await server.send("content", { kind: "hold", layerOffset: 0 });
  const reading = run("sha256sum", [`${place.mountpoint}/file1`]);
  await untilReadsWait(server);
  // Left where it is: the next one asks for it again.
  await server.send("letGo", { limitMs: 50 });
  await place.serve();
  expect((await reading).stdout).toContain(place.digests.file1);
});

it("a server lets go when what it has read is answered, and its descriptor is closed", async () => {
  const place = await KeptPlace.make("answered");
  const server = await place.serve();
  await server.send("content", { kind: "hold", layerOffset: 0 });
  const reading = run("sha256sum", [`${place.mountpoint}/file1`]);
  await untilReadsWait(server);
  const lettingGo = server.send("letGo", { limitMs: 30_000 });
  await server.send("content", { kind: "serve" });
  expect((await lettingGo).error).toBeUndefined();
  expect(server.logs.some((line) => line.message === "mount let go of")).toBe(true);
  // One is the keeper's.
  expect(openFiles(server.pid).filter((file) => file === "/dev/fuse")).toHaveLength(1);
  // The rest of the file is read from the next one.
  await place.serve();
  expect((await reading).stdout).toContain(place.digests.file1);
});

it("a server that does not give way is killed, and one that stands in line has the place", async () => {
  const place = await KeptPlace.make("stubborn");
  const server = await place.serve();
  const reader = await place.read();
  server.signal("SIGSTOP");
  const next = await place.serve();
  expect(await server.exited).toBe("SIGKILL");
  await reader.more();
  expect((await reader.stop()).failures).toEqual([]);
  expect(isAlive(next.pid)).toBe(true);
});

it("a new server that dies while the old one lets go is started again", async () => {
  const place = await KeptPlace.make("halfway");
  const server = await place.serve();
  const reader = await place.read();
  server.signal("SIGSTOP");
  const next = place.serve().catch((error: Error) => error.message);
  const asked = () => place.logLines().find((line) => line.msg.includes("is asked to let go"));
  await until(
    () => asked() !== undefined,
    () => place.log(),
  );
  kill(asked()!.next as number, "SIGKILL");
  await next;
  server.signal("SIGCONT");
  await until(
    () => place.readyServers().length >= 2,
    () => place.log(),
  );
  await reader.more();
  expect((await reader.stop()).failures).toEqual([]);
});

it("a mount that has ended under the server before is not handed on", async () => {
  const place = await KeptPlace.make("ended");
  const server = await place.serve();
  server.signal("SIGSTOP");
  const next = place.serve();
  await until(
    () => place.log().includes("is asked to let go"),
    () => place.log(),
  );
  expect((await run("umount", ["-l", place.mountpoint])).code).toBe(0);
  kill(server.pid, "SIGKILL");
  const { pid } = await next;
  expect(openFiles(place.holderPid()).filter((file) => file === "/dev/fuse")).toHaveLength(1);
  // It has mounted anew.
  expect((await run("ls", [place.mountpoint])).stdout).toContain("file0");
  expect(place.readyServers().at(-1)).toBe(pid);
});

/** Reads of the mount that have come to the server and wait for the network. */
async function untilReadsWait(server: FuseServer): Promise<void> {
  while ((await server.send("stats")).waiting === 0);
}
