import { writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { commandExitCode, readRuntimeErrors, runtimeKinds } from "../../src/runtime/runtime-command.js";
import { makeTempDir } from "../support/temp-dir.js";

test.each([
  ['unable to start container process: exec: "x": executable file not found in $PATH', 127],
  ['unable to start container process: exec: "/x": stat /x: no such file or directory', 127],
  [
    'unable to start container process: error during container init: exec: "x": executable file not found in $PATH',
    127,
  ],
  ['unable to start container process: exec: "/etc": permission denied', 126],
  ["unable to start container process: exec /bin/sh: permission denied", 126],
  ['exec: "/etc": is a directory', 126],
  ['starting sandbox: error finding executable "x" in PATH [/bin]: no such file or directory', 127],
  ["starting sandbox: creating process: failed to load /x: permission denied", 126],
  [
    'unable to start container process: error during container init: error mounting "/n" to rootfs at "/x": stat /n: no such file or directory',
    undefined,
  ],
  ["unable to start container process: error during container init: mkdir /x: permission denied", undefined],
  ["error setting up FS: stat /nosuch: no such file or directory", undefined],
])("the reason %j means exit code %s", (reason, code) => {
  expect(commandExitCode(reason)).toBe(code);
});

test("a runtime's log gives its errors in order, whatever else is in it", async () => {
  const file = path.join(await makeTempDir("log"), "log");
  expect(await readRuntimeErrors(file)).toEqual([]);
  const record = (level: string, msg: unknown) => JSON.stringify({ level, msg });
  await writeFile(
    file,
    `${record("warning", "w")}\n${record("error", "a")}${record("fatal", "b")}\nnot json\n{"level":"error"}\n${record("error", "c\n}{")}\n{"level":"err`,
  );
  expect(await readRuntimeErrors(file)).toEqual(["a", "b", "c\n}{"]);
});

test("a started process is told from a failed start", () => {
  const { runc, runsc } = runtimeKinds;
  expect(runc.startFailure(["runc run failed: no space"], false)).toBe("no space");
  expect(runc.startFailure([], false)).toBe("it gave no reason");
  expect(runc.startFailure(["cannot remove the cgroup"], true)).toBeUndefined();
  expect(runsc.startFailure(["something odd"], true)).toBeUndefined();
  expect(runsc.startFailure(["reading spec: no"], false)).toBe("reading spec: no");
  expect(runsc.startFailure([], false)).toBe("it gave no reason");
  expect(runsc.startFailure(["running container: starting: no"], true)).toBe("starting: no");
  expect(runsc.startFailure(["stat /x", "running container: EOF"], false)).toBe("EOF (stat /x)");
});
