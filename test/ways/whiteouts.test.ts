/** Rules and example cases 1 to 8, 10, 12 and 13 of whiteouts and opaque markers; test/tree/whiteouts.test.ts has more of each, at the tree alone. */
import { describe, expect, it } from "vitest";
import { merge } from "../tree/notation.js";
import { asUmoci, asUmociButForTimes, expectListing, expectMerged, ours } from "./four-ways.js";

describe("an opaque marker", () => {
  asUmociButForTimes("example 1: leaves a directory empty", "x/ x/a x/b/c ; x/.wh..wh..opq", "x/");
  asUmoci("example 2: spares what its layer gives behind it", "x/a x/b/c ; x/.wh..wh..opq x/new", "x/ x/new");
  asUmoci("example 2: spares what its layer gives before it", "x/a x/b/c ; x/new x/.wh..wh..opq", "x/ x/new");
  asUmoci(
    "example 3: of nested entries spares exactly those that are declared again",
    "x/ x/a x/b/ x/b/c x/b/d x/e/ x/e/f ; x/.wh..wh..opq x/b/ x/b/d(new)",
    "x/ x/b/ x/b/d(new)",
  );
  asUmoci(
    "example 4: at the root spares what the same layer gives below directories that it does not list",
    "some/dir/f another/dir/f ; some/dir/f(new) .wh..wh..opq",
    "some/ some/dir/ some/dir/f(new)",
  );
  asUmoci(
    "example 5: at the root empties the image but for what the layer gives on both sides of it",
    "a/ a/b c/ c/d/ c/d/e f l→a p=f ; .abc .wh..wh..opq foobar",
    ".abc foobar",
  );
  asUmoci("in a directory that nobody has makes none", "f ; d/.wh..wh..opq", "f");
  asUmoci("below a file does nothing to the file", "f ; f/.wh..wh..opq g", "f g");
  asUmoci(
    "through a lower link empties where the link leads",
    "etc/p l→/etc ; l/.wh..wh..opq l/n",
    "etc/ etc/n(l/n) l→/etc",
  );
  asUmoci(
    "in a directory that replaces a link leaves alone where the link led",
    "etc/p l→/etc ; l/ l/.wh..wh..opq l/n",
    "etc/ etc/p l/ l/n",
  );
  ours(
    "before the directory that replaces a link leaves alone where the link led (umoci goes by order and empties it)",
    "etc/p l→/etc ; l/.wh..wh..opq l/ l/n",
    "etc/ etc/p l/ l/n",
  );

  it("at the root leaves the root its mode, owner and time", async () => {
    const image = merge([
      [{ path: "./", mode: 0o711, uid: 5, gid: 6, mtimeSec: 77, mtimeNsec: 123_000_000 }, "a/b"],
      ".wh..wh..opq c",
    ]);
    expect(image.root).toMatchObject({ mode: 0o711, uid: 5, gid: 6, mtimeSec: 77 });
    await expectMerged(image, { umoci: "without times of directories" });
  });

  it("leaves a directory that is not described again its attributes", async () => {
    const image = merge([[{ path: "d/", mode: 0o1777, uid: 5, mtimeSec: 77 }, "d/a"], "d/.wh..wh..opq d/b"]);
    expect(image.node("d")).toMatchObject({ mode: 0o1777, uid: 5, mtimeSec: 77 });
    await expectMerged(image);
  });
});

describe("a whiteout", () => {
  asUmoci(
    "example 6: of .wh.baz leaves .baz, and of .wh..baz takes it",
    "baz .baz d/baz d/.baz ; .wh.baz d/.wh.baz ; n ; .wh..baz",
    "d/ d/.baz n",
  );
  asUmoci(
    "example 7: before the name that its layer gives hides only the lower one",
    "f(old) d/k ; .wh.f f(new) .wh.d d/n",
    "d/ d/n f(new)",
  );
  asUmoci(
    "example 7: behind the name that its layer gives hides only the lower one",
    "f(old) d/k ; f(new) .wh.f d/n .wh.d",
    "d/ d/n f(new)",
  );
  ours(
    "of a directory makes it anew for a child that came before (umoci keeps the attributes that were hidden)",
    [[{ path: "d/", mode: 0o700, uid: 9 }, "d/k"], "d/n .wh.d"],
    "d/ d/n",
  );
  asUmoci("example 8: of what is not there is no error", "foo/bar ; .wh.none none/.wh.none", "foo/ foo/bar");
  asUmoci("hides a directory with all that is in it", "a/b/c/d a/e f ; .wh.a", "f");
  asUmoci(
    "example 10: of a link hides the link alone",
    "etc/passwd localetc→/etc ; .wh.localetc",
    "etc/ etc/passwd",
  );
  asUmoci(
    "example 10: through a link hides where the link leads",
    "etc/passwd etc/w localetc→/etc ; localetc/.wh.w",
    "etc/ etc/passwd localetc→/etc",
  );
  ours(
    "through a link that the layer itself takes away leaves alone where it led (umoci goes by order)",
    "etc/w l→/etc ; l/.wh.w .wh.l",
    "etc/ etc/w",
  );
  ours(
    "through a link of its own layer hides nothing (umoci follows it)",
    "etc/w d/k ; d→/etc d/.wh.w",
    "d→/etc etc/ etc/w",
  );
  asUmoci(
    "example 13: in the first layer is invisible and hides nothing, and so is an opaque marker",
    "a .wh.a d/ d/.wh..wh..opq d/b .wh.d .wh.none",
    "a d/ d/b",
  );
  asUmoci(
    "is not remembered by the layers above",
    "a d/x ; .wh.a .wh.d ; a(again) d/ d/y",
    "a(again) d/ d/y",
  );

  it("example 12: hides names of 255 bytes, with newline, space, backslash, and bytes that are no UTF-8", async () => {
    const names = [
      Buffer.alloc(251, "n"),
      Buffer.from("new\nline"),
      Buffer.from("sp ace "),
      Buffer.from("back\\slash"),
      Buffer.from([0xff, 0xfe, 0x41]),
    ];
    const lower = names.flatMap((name) => [
      { path: name, content: "goes" },
      { path: Buffer.concat([Buffer.from("d/"), name]), content: "goes" },
      { path: Buffer.concat([Buffer.from("stays "), name.subarray(0, 200)]), content: "stays" },
    ]);
    const upper = names.flatMap((name) => [
      { path: Buffer.concat([Buffer.from(".wh."), name]) },
      { path: Buffer.concat([Buffer.from("d/.wh."), name]) },
    ]);
    const image = merge([lower, upper]);
    expect(image.root.children!.size).toBe(names.length + 1);
    expect(image.node("d").children!.size).toBe(0);
    await expectMerged(image);
  });

  it("example 12: of a name of 255 bytes is one of 259, which only a tar can hold", async () => {
    const name = "n".repeat(255);
    const files = [
      { path: name, content: "goes" },
      { path: `d/${name}`, content: "goes" },
    ];
    const markers = [{ path: `.wh.${name}` }, { path: `d/.wh.${name}` }];
    await expectListing([files, markers], "d/");
  });
});

describe("what only looks like a whiteout", () => {
  ours(
    "a marker that is no regular file is content (umoci takes any entry of the name)",
    ["d/x foo l e/y", ["d/.wh.x/", ".wh.l→t", "e/.wh..wh..opq/", { path: ".wh.foo", type: "fifo" }]],
    ".wh.foo(fifo) .wh.l→t d/ d/.wh.x/ d/x e/ e/.wh..wh..opq/ e/y foo l",
  );
  ours(
    "AUFS's own files are never visible, and a hard link to one has its content (umoci does not know them)",
    ".wh..wh.aufs .wh..wh.plnk/ .wh..wh.plnk/1.2(bytes) a=.wh..wh.plnk/1.2 b=./.wh..wh.plnk/1.2 d/.wh..wh.orph/x",
    "a(bytes) b(bytes)",
  );
  ours(
    "a whiteout that is a hard link, as AUFS makes them, hides",
    "a b c ; .wh..wh.aufs .wh.a=.wh..wh.aufs .wh.b=.wh.a",
    "c",
  );
});
