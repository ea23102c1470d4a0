import { execFileSync, spawn } from "node:child_process";
import { chmod, chown, mkdir, stat } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { cliFile, resultOf } from "../support/skim-cli.js";
import { makeUnpackPlace, type UnpackPlace } from "./unpack-place.js";

const nobody = 65534;
let place: UnpackPlace;
beforeAll(async () => {
  place = await makeUnpackPlace();
  await chmod(place.dir, 0o755);
  await chown(place.trees, nobody, nobody);
  await mkdir(place.cacheDir);
  await chown(place.cacheDir, nobody, nobody);
  await place.add("owners", [
    [
      { path: "./", mode: 0o555, uid: 7, gid: 8 },
      { path: "closed/", mode: 0o000, uid: 1, gid: 2 },
      { path: "closed/file", content: "inside", mode: 0o400, uid: 3, gid: 4 },
      {
        path: "setuid",
        content: "x",
        mode: 0o6755,
        uid: 0,
        gid: 0,
        xattrs: { "user.note": "n", "security.capability": "c" },
      },
      { path: "link", link: "setuid", uid: 9, gid: 9 },
      { path: "dev/null", type: "character", major: 1, minor: 3 },
      { path: "pipe", type: "fifo", mode: 0o640, uid: 5, gid: 6 },
    ],
    [{ path: "closed/.wh.file" }, { path: "closed/again", content: "again" }],
  ]);
});
afterAll(() => place.registry.close());

const attribute = (name: string, file: string) =>
  execFileSync("getfattr", ["--absolute-names", "--only-values", "-h", "-n", name, file], {
    encoding: "utf8",
  });

it.each(["copy", "extract"])(
  "without root, %s keeps owners and modes in override_stat, and leaves out devices with a warning",
  async (mode) => {
    const directory = path.join(place.trees, mode);
    const args = [
      cliFile,
      "unpack",
      place.name("owners"),
      directory,
      "--mode",
      mode,
      "--json",
      "--cache-dir",
      place.cacheDir,
    ];
    const run = () =>
      resultOf(
        spawn(process.execPath, args, {
          stdio: ["pipe", "pipe", "pipe"],
          uid: nobody,
          gid: nobody,
          cwd: "/",
        }),
      );
    const { code, stdout, stderr } = await run();
    expect(stderr).toMatch(/warning: device nodes were left out, since only root can make them: dev\/null\n/);
    expect(stderr).toMatch(/warning: the extended attribute security.capability was left out.*: setuid\n/);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ mode, ownership: "recorded" });

    const recorded = { "": "7:8:0555", closed: "1:2:00", setuid: "0:0:06755" };
    for (const [name, value] of Object.entries(recorded))
      expect(attribute("user.containers.override_stat", path.join(directory, name))).toBe(value);
    expect(attribute("user.note", path.join(directory, "setuid"))).toBe("n");
    expect(execFileSync("ls", [path.join(directory, "closed")], { encoding: "utf8" })).toBe("again\n");
    const { mode: bits, uid } = await stat(path.join(directory, "setuid"));
    expect([bits & 0o7777, uid]).toEqual([0o755, nobody]);
    await expect(stat(path.join(directory, "dev/null"))).rejects.toMatchObject({ code: "ENOENT" });
    expect((await stat(path.join(directory, "pipe"))).isFIFO()).toBe(true);

    expect(JSON.parse((await run()).stdout)).toMatchObject({ unchanged: true });
  },
);
