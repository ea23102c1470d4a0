import { expect, test } from "vitest";
import { canonicalMode, parseSeedDirectory } from "../../src/overlay/seed-directory.js";

test("a directory is written as a path with or without an octal mode", () => {
  expect(parseSeedDirectory("/workspace")).toEqual({ path: "/workspace" });
  expect(parseSeedDirectory("/workspace:1777")).toEqual({ path: "/workspace", mode: 0o1777 });
  expect(parseSeedDirectory("/a:b:755")).toEqual({ path: "/a:b", mode: 0o755 });
});

test.each(["", "workspace", ":755", "/a:", "/a:rwx", "/a:8", "/a:99999", "/a\0b"])(
  "%j is refused as a directory",
  (text) => {
    expect(() => parseSeedDirectory(text)).toThrow(expect.objectContaining({ code: "USAGE" }));
  },
);

test("missing directories get the modes that programs expect of them", () => {
  expect(["/tmp", "/var/tmp", "/proc", "/sys", "/dev", "/workspace"].map(canonicalMode)).toEqual([
    0o1777, 0o1777, 0o555, 0o555, 0o755, 0o755,
  ]);
});
