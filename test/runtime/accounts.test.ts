import { expect, test } from "vitest";
import { resolveUser } from "../../src/runtime/accounts.js";
import { group, passwd } from "./busybox-bundle.js";

const accounts = { passwd, group };

test.each([
  ["", { uid: 0, gid: 0, additionalGids: [0], home: "/root" }],
  ["root", { uid: 0, gid: 0, additionalGids: [0], home: "/root" }],
  ["app", { uid: 1001, gid: 1002, additionalGids: [1002, 29, 44], home: "/home/app" }],
  ["1001", { uid: 1001, gid: 1002, additionalGids: [1002, 29, 44], home: "/home/app" }],
  ["app:staff", { uid: 1001, gid: 50, additionalGids: [50], home: "/home/app" }],
  ["app:77", { uid: 1001, gid: 77, additionalGids: [77], home: "/home/app" }],
  ["4242", { uid: 4242, gid: 0, additionalGids: [0], home: "/" }],
  ["4242:video", { uid: 4242, gid: 44, additionalGids: [44], home: "/" }],
  [":staff", { uid: 0, gid: 50, additionalGids: [50], home: "/root" }],
  ["4294967294:4294967294", { uid: 4294967294, gid: 4294967294, additionalGids: [4294967294], home: "/" }],
])("%j is looked up as docker does", (user, expected) => {
  expect(resolveUser(user, accounts, "image")).toEqual(expected);
});

test.each(["nobody", "app:nobody", "-1", "4294967295", "0x0", " app", "app ", "1e3", "+", "#", "root\n"])(
  "%j is an error that names it, never root",
  (user) => {
    for (const [origin, code] of [
      ["image", "IMAGE_INVALID"],
      ["option", "USAGE"],
    ] as const) {
      const message = expect.stringContaining(JSON.stringify(user));
      expect(() => resolveUser(user, accounts, origin)).toThrow(expect.objectContaining({ code, message }));
    }
  },
);

test("an image without passwd runs numbers and root, and no names", () => {
  const none = { passwd: undefined, group: undefined };
  expect(resolveUser("", none, "image")).toEqual({ uid: 0, gid: 0, additionalGids: [0], home: "/" });
  expect(resolveUser("12:34", none, "image")).toMatchObject({ uid: 12, gid: 34 });
  expect(() => resolveUser("app", none, "image")).toThrow("which it does not have");
});

test("digits are a number, also where a user or a group is named so", () => {
  const named = { passwd: `1001:x:0:0::/root:\n${passwd}`, group: `50:x:0:\n${group}` };
  expect(resolveUser("1001:50", named, "option")).toMatchObject({ uid: 1001, gid: 50, additionalGids: [50] });
  expect(resolveUser("1001", named, "option")).toMatchObject({ uid: 1001, gid: 1002, home: "/home/app" });
});

test("lines of no use are skipped: comments, NIS entries, garbage, Windows line ends, a missing last newline", () => {
  const messy = [
    "# app:x:1:1::/wrong:/bin/sh",
    "+app:x:2:2::/wrong:",
    "-app",
    "+::::::",
    ":x:0:0::/:",
    "app",
    "app:x:abc:1::/wrong:",
    "app:x:-5:1::/wrong:",
    "app:x:99999999999:1::/wrong:",
    "\0\u00ff\u00fe:::",
    "",
    "  app:x:1001:1002:App:/home/app:/bin/sh\r",
    "app:x:0:0:second:/root:/bin/sh",
  ].join("\n");
  const groups = "audio:x:29:app\r\nbroken:x:x:app\nshort:x\nvideo:x:44:other,app";
  expect(resolveUser("app", { passwd: messy, group: groups }, "image")).toEqual({
    uid: 1001,
    gid: 1002,
    additionalGids: [1002, 29, 44],
    home: "/home/app",
  });
});

test("files of many megabytes and lines without end are looked through, too", () => {
  const long = `${"x".repeat(5_000_000)}\n${"u:x:1:1::/:\n".repeat(200_000)}app:x:7:8::/a:`;
  const members = `big:x:9:${"m,".repeat(1_000_000)}app\n`;
  expect(resolveUser("app", { passwd: long, group: members }, "image")).toMatchObject({
    uid: 7,
    additionalGids: [8, 9],
  });
});
