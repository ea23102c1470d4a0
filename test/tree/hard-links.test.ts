import { describe, expect, it } from "vitest";
import { linesOfTree } from "../support/tree-dump.js";
import { asUmoci, expectAsUmoci, ours } from "./as-umoci.js";
import { merge } from "./notation.js";

function linkCount(image: ReturnType<typeof merge>, path: string): number {
  return linesOfTree(image).find((line) => line.path === path)!.nlink;
}

describe("a hard link", () => {
  it("is the same inode as its target, whose attributes it has", async () => {
    const image = merge([
      [
        { path: "a", content: "a", mode: 0o4751, uid: 3, gid: 4, mtimeSec: 9 },
        { path: "d/b", type: "hardlink", link: "a", mode: 0o600, uid: 99, mtimeSec: 1 },
      ],
    ]);
    expect(image.node("d/b")).toBe(image.node("a"));
    expect(image.node("a")).toMatchObject({ mode: 0o4751, uid: 3, gid: 4, mtimeSec: 9 });
    expect(linkCount(image, "a")).toBe(2);
    await expectAsUmoci(image);
  });

  it("stays when its target is whited out above, alone and with its bytes", async () => {
    const image = merge("a b=a ; .wh.a");
    expect(image.listing).toBe("b(a)");
    expect(linkCount(image, "b")).toBe(1);
    await expectAsUmoci(image);
  });

  asUmoci(
    "to a lower file keeps the old bytes when that is replaced above",
    "a(old) ; b=a ; a(new)",
    "a(new) b(old)",
  );
  asUmoci(
    "to a lower file keeps the old bytes when that is whited out above",
    "a(old) ; b=a ; .wh.a",
    "b(old)",
  );
  asUmoci(
    "to a lower file that the layer replaces later has the old bytes",
    "a(old) ; b=a a(new)",
    "a(new) b(old)",
  );
  asUmoci(
    "to a lower file that the layer replaced before has the new bytes",
    "a(old) ; a(new) b=a",
    "a(new) b(new)",
  );
  asUmoci(
    "to a lower file that the layer whites out later has the old bytes",
    "a(old) ; b=a .wh.a",
    "b(old)",
  );
  ours(
    "to a lower file that the layer whited out before has the old bytes all the same (umoci: no such file)",
    "a(old) ; .wh.a b=a",
    "b(old)",
  );
  ours(
    "to a lower file in a directory that the layer makes opaque has the old bytes",
    "d/a(old) ; d/.wh..wh..opq d/b=d/a",
    "d/ d/b(old)",
  );
  ours(
    "to a name that the layer hides and gives has what the layer gives",
    "a(old) ; .wh.a b=a a(new)",
    "a(new) b(new)",
  );
  asUmoci("declared again as a file leaves the other names alone", "a(1) b=a c=b ; b(2)", "a(1) b(2) c(1)");
  asUmoci("to the first of two files of one name has the first one's bytes", "a(1) b=a a(2)", "a(2) b(1)");
  asUmoci("to a symlink links the symlink", "t l→t h=l", "h→t l→t t");
  asUmoci("to a dangling symlink links the symlink", "l→nowhere h=l", "h→nowhere l→nowhere");
  asUmoci("follows links on the way to its target", "d/f l→d h=l/f", "d/ d/f h(d/f) l→d");
  asUmoci("takes .. and / of its target inside the root", "d/f h=../../d/f i=/d/f", "d/ d/f h(d/f) i(d/f)");
  asUmoci("replaces a directory", "f h/x ; h=f", "f h(f)");
  asUmoci(
    "to a FIFO or a device is another name of it",
    [[{ path: "p", type: "fifo" }, "q=p"]],
    "p(fifo) q(fifo)",
  );
  asUmoci("of a link chain in order is one inode", "a b=a c=b d=c", "a b(a) c(a) d(a)");
  ours("finds a target that comes later in the layer (umoci: no such file)", "b=a a", "a b(a)");
  ours(
    "finds a target at the end of a chain that stands in the wrong order",
    "d=c c=b b=a a",
    "a b(a) c(a) d(a)",
  );
  ours("to a later symlink links the symlink", "h=l l→t", "h→t l→t");
  ours("to a later file gives way to a later entry of its own name", "b=a a b(new)", "a b(new)");
  ours("to a later file gives way to a directory of its own name", "b=a a b/c", "a b/ b/c");
  ours("of a file to its own name changes nothing (umoci: no such file)", "a ; a=a", "a");

  it("in a chain in the wrong order is one inode with its true count", () => {
    const image = merge("d=c c=b b=a a");
    expect(linkCount(image, "a")).toBe(4);
    expect(image.node("d")).toBe(image.node("a"));
  });

  const refused = {
    "b=none": /layer 1 of 1, .*"b" is a hard link to "none"/,
    "b=../victim/hello": /"b" is a hard link to "\.\.\/victim\/hello"/,
    "a=a": /"a" is a hard link to "a"/,
    "a=b b=c c=a": /is a hard link to/,
    "d/ b=d": /"b" is a hard link to the directory "d"/,
    "b=/": /directory "\/"/,
    "d/ ; .wh.d b=d": /layer 2 of 2, .*directory "d"/,
    "b=d d/": /directory "d"/,
    "b=d/f d": /"b" is a hard link to "d\/f"/,
    "l→l b=l/f": /"b" is a hard link to "l\/f"/,
    "b=.wh..wh.plnk/1": /"b" is a hard link/,
    "a ; .wh.a ; b=a": /layer 3 of 3, .*"b" is a hard link to "a"/,
  };
  for (const [image, message] of Object.entries(refused)) {
    it(`that leads to no file is an error: ${image}`, () => {
      expect(() => merge(image)).toThrow(
        expect.objectContaining({ code: "LAYER_CORRUPT", message: expect.stringMatching(message) }),
      );
    });
  }
});
