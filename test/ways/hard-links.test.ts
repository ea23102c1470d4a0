/** The rule of hard links and example cases 11 and 19; test/tree/hard-links.test.ts has more, at the tree alone. */
import { describe, expect, it } from "vitest";
import { linesOfTree } from "../support/tree-dump.js";
import { merge } from "../tree/notation.js";
import { asUmoci, asUmociButForTimes, expectMerged, ours } from "./four-ways.js";

function linkCount(image: ReturnType<typeof merge>, path: string): number {
  return linesOfTree(image).find((line) => line.path === path)!.nlink;
}

describe("a hard link", () => {
  it("is the same inode as its target, with its true count, whose attributes it has", async () => {
    const image = merge([
      [
        { path: "a", content: "a", mode: 0o4751, uid: 3, gid: 4, mtimeSec: 9, xattrs: { "user.a": "1" } },
        { path: "d/b", type: "hardlink", link: "a", mode: 0o600, uid: 99, mtimeSec: 1 },
        { path: "c", type: "hardlink", link: "d/b", mode: 0o7777, xattrs: { "user.c": "1" } },
      ],
    ]);
    expect(image.node("d/b")).toBe(image.node("a"));
    expect(linkCount(image, "c")).toBe(3);
    await expectMerged(image, { umoci: false });
  });

  it("example 11: stays when its target is whited out above, alone and with its bytes", async () => {
    const image = merge("a b=a ; .wh.a");
    expect(image.listing).toBe("b(a)");
    expect(linkCount(image, "b")).toBe(1);
    await expectMerged(image);
  });

  asUmoci(
    "example 19: to a lower file keeps the old bytes when that is replaced above, or whited out",
    "a(old) c(old) ; b=a d=c ; a(new) .wh.c",
    "a(new) b(old) d(old)",
  );
  asUmoci(
    "example 19: to a lower file that the same layer replaces or whites out later has the old bytes",
    "a(old) c(old) ; b=a a(new) d=c .wh.c",
    "a(new) b(old) d(old)",
  );
  asUmoci(
    "to a lower file that the layer replaced before has the new bytes",
    "a(old) ; a(new) b=a",
    "a(new) b(new)",
  );
  ours(
    "to a lower file that the layer whited out before, or made opaque, has the old bytes all the same (umoci: no such file)",
    "a(old) d/c(old) ; .wh.a b=a d/.wh..wh..opq d/e=d/c",
    "b(old) d/ d/e(old)",
  );
  asUmoci(
    "replaced by a file under one name leaves the other names alone",
    "a(1) b=a c=b ; b(2)",
    "a(1) b(2) c(1)",
  );
  asUmoci("to the first of two files of one name has the first one's bytes", "a(1) b=a a(2)", "a(2) b(1)");
  asUmoci(
    "to a symlink links the symlink, wherever that leads",
    "t l→t h=l m→nowhere i=m",
    "h→t i→nowhere l→t m→nowhere t",
  );
  asUmociButForTimes(
    "follows links on the way to its target, and takes .. and / of it inside the root",
    "d/f l→d h=l/f ; i=../../d/f j=/d/f",
    "d/ d/f h(d/f) i(d/f) j(d/f) l→d",
  );
  asUmoci("replaces a directory with all that is in it", "f h/x/y ; h=f", "f h(f)");
  asUmoci(
    "to a FIFO or a device is another name of it",
    [[{ path: "p", type: "fifo" }, "q=p", { path: "n", type: "character", major: 1, minor: 3 }, "m=n"]],
    "m(character) n(character) p(fifo) q(fifo)",
  );
  ours(
    "finds a target that comes later in the layer, at the end of a chain too (umoci: no such file)",
    "b=a a h=l l→t g=f f=e e",
    "a b(a) e f(e) g(e) h→t l→t",
  );
  ours(
    "to a later file gives way to a later entry of its own name (umoci: no such file)",
    "b=a a b(new) d=c c d/e",
    "a b(new) c d/ d/e",
  );
  ours("of a file to its own name changes nothing (umoci: no such file)", "a ; a=a", "a");
  asUmoci(
    "to a file of a directory that a layer replaces stays a link to its old bytes",
    "d/a(old) ; b=d/a ; d ; c=b",
    "b(old) c(old) d",
  );
});
