import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { findMount, parseMountTable, readMountTable } from "../../src/fuse/mount-table.js";

const table = String.raw`22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 27 0:41 /sub\040dir /mnt/a\011b\012c\134d\043e ro,nosuid,nodev master:2 propagate_from:3 unbindable - fuse.skim registry/app,v1:x\040y ro,user_id=0
41 27 0:42 / /mnt/twice rw - tmpfs lower rw
42 41 0:43 / /mnt/twice rw - tmpfs upper rw
43 27 0:44 / /mnt/empty rw -  none rw
44 27 0:45 / /mnt/${"\xc3\xa9"} rw - overlay overlay rw,lowerdir=/a\134:b:/c,upperdir=/u
not a line
`;
const parsed = () => parseMountTable(Buffer.from(table, "latin1"));

describe("the mount table", () => {
  it("is read with its escapes undone and its optional fields skipped", () => {
    expect(parsed()[2]).toEqual({
      id: 40,
      parentId: 27,
      deviceMajor: 0,
      deviceMinor: 41,
      root: "/sub dir",
      mountpoint: "/mnt/a\tb\nc\\d#e",
      options: ["ro", "nosuid", "nodev"],
      type: "fuse.skim",
      source: "registry/app,v1:x y",
      superOptions: ["ro", "user_id=0"],
    });
    expect(parsed()[6]).toMatchObject({
      mountpoint: "/mnt/é",
      superOptions: ["rw", "lowerdir=/a\\:b:/c", "upperdir=/u"],
    });
  });

  it("leaves out what is no line of it", () => {
    expect(parsed().map((entry) => entry.id)).toEqual([22, 27, 40, 41, 42, 43, 44]);
    expect(parseMountTable(Buffer.alloc(0))).toEqual([]);
  });

  it("finds a mount by its exact path only, and the topmost of several", () => {
    expect(findMount("/mnt/a\tb\nc\\d#e", parsed())?.id).toBe(40);
    expect(findMount("/mnt", parsed())).toBeUndefined();
    expect(findMount("/mnt/twice", parsed())?.source).toBe("upper");
    const reordered = parsed().reverse();
    expect(findMount("/mnt/twice", reordered)?.source).toBe("upper");
  });

  it("of this process has as many entries as the kernel has lines, and the root", () => {
    const lines = readFileSync("/proc/self/mountinfo", "latin1").trim().split("\n").length;
    expect(Math.abs(readMountTable().length - lines)).toBeLessThanOrEqual(5);
    expect(findMount("/")).toMatchObject({ mountpoint: "/" });
  });
});
