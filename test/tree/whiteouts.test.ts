import { describe, expect, it } from "vitest";
import { asUmoci, ours } from "./as-umoci.js";
import { merge } from "./notation.js";

describe("opaque", () => {
  asUmoci(
    "a directory keeps its place and loses its lower content",
    "x/ x/a x/b/ x/b/c ; x/.wh..wh..opq",
    "x/",
  );
  asUmoci("what the layer gives after the marker stays", "x/a x/b/c ; x/.wh..wh..opq x/new", "x/ x/new");
  asUmoci("what the layer gives before the marker stays", "x/a x/b/c ; x/new x/.wh..wh..opq", "x/ x/new");
  asUmoci(
    "of nested entries exactly those come back that are declared again",
    "x/ x/a x/b/ x/b/c x/b/d x/e/ x/e/f ; x/.wh..wh..opq x/b/ x/b/d(new)",
    "x/ x/b/ x/b/d(new)",
  );
  asUmoci(
    "at the root it spares what the same layer gives below directories that it does not list",
    "some/dir/f another/dir/f ; some/dir/f(new) .wh..wh..opq",
    "some/ some/dir/ some/dir/f(new)",
  );
  asUmoci(
    "at the root it empties the image but for what the layer gives on both sides of it",
    "a/ a/b c/ c/d/ c/d/e f ; .abc .wh..wh..opq foobar",
    ".abc foobar",
  );
  asUmoci("below a file it does nothing to the file", "f ; f/.wh..wh..opq g", "f g");
  asUmoci("in a directory that nobody has it makes none", "f ; d/.wh..wh..opq", "f");
  asUmoci(
    "through a lower link it empties where the link leads",
    "etc/p l→/etc ; l/.wh..wh..opq",
    "etc/ l→/etc",
  );
  asUmoci(
    "in a directory that replaces a link it leaves alone where the link led",
    "etc/p l→/etc ; l/ l/.wh..wh..opq l/n",
    "etc/ etc/p l/ l/n",
  );
  ours(
    "before the directory that replaces a link it still leaves alone where the link led (umoci goes by order and empties it)",
    "etc/p l→/etc ; l/.wh..wh..opq l/ l/n",
    "etc/ etc/p l/ l/n",
  );
  ours(
    "in a directory that replaces a link which is reached by another link, it leaves alone where that led",
    "usr/lib/x→/etc lib→usr/lib etc/p ; lib/x/.wh..wh..opq usr/lib/x/ lib/x/n",
    "etc/ etc/p lib→usr/lib usr/ usr/lib/ usr/lib/x/ usr/lib/x/n(lib/x/n)",
  );
  asUmoci(
    "through a link that the layer gives anew it goes where the new one leads",
    "a/w b/w l→/a ; l→/b l/.wh..wh..opq",
    "a/ a/w b/ l→/b",
  );
  ours(
    "in a directory where a loop of links stood it hides nothing and is no error",
    "l→l ; l/.wh..wh..opq l/ l/n",
    "l/ l/n",
  );

  it("at the root keeps the root's mode and owner", () => {
    const { root, listing } = merge([[{ path: "./", mode: 0o711, uid: 5, gid: 6 }, "a"], ".wh..wh..opq"]);
    expect(listing).toBe("");
    expect(root).toMatchObject({ mode: 0o711, uid: 5, gid: 6 });
  });

  it("of a directory that is not described again keeps its attributes", () => {
    const image = merge([[{ path: "d/", mode: 0o1777, uid: 5, mtimeSec: 77 }, "d/a"], "d/.wh..wh..opq d/b"]);
    expect(image.listing).toBe("d/ d/b");
    expect(image.node("d")).toMatchObject({ mode: 0o1777, uid: 5, mtimeSec: 77 });
  });
});

describe("a whiteout", () => {
  asUmoci(
    "of .wh.baz leaves .baz, and of .wh..baz takes it",
    "baz .baz d/baz d/.baz ; .wh.baz d/.wh.baz ; n ; .wh..baz",
    "d/ d/.baz n",
  );
  asUmoci("before the name hides only the lower one", "f(old) ; .wh.f f(new)", "f(new)");
  asUmoci("behind the name hides only the lower one", "f(old) ; f(new) .wh.f", "f(new)");
  asUmoci("of a directory that gets a new child leaves only that", "d/k ; .wh.d d/n", "d/ d/n");
  asUmoci("of a directory behind its new child leaves only that", "d/ d/k d/s/t ; d/n .wh.d", "d/ d/n");
  asUmoci(
    "of what is not there is no error",
    "foo/bar ; .wh.none none/.wh.none foo/bar/.wh.none",
    "foo/ foo/bar",
  );
  asUmoci("hides a directory with all that is in it", "a/b/c/d a/e f ; .wh.a", "f");
  asUmoci("of a link hides the link alone", "etc/passwd localetc→/etc ; .wh.localetc", "etc/ etc/passwd");
  asUmoci(
    "through a link hides where the link leads",
    "etc/passwd etc/w localetc→/etc ; localetc/.wh.w",
    "etc/ etc/passwd localetc→/etc",
  );
  ours(
    "of a link, with one through it, leaves alone where the link led, in any order (umoci goes by order)",
    "etc/w l→/etc ; l/.wh.w .wh.l",
    "etc/ etc/w",
  );
  asUmoci(
    "of a link, then one through it, leaves alone where the link led",
    "etc/w l→/etc ; .wh.l l/.wh.w",
    "etc/ etc/w",
  );
  asUmoci(
    "follows .. of a link inside the root",
    "etc/w d/l→../../../etc ; d/l/.wh.w",
    "d/ d/l→../../../etc etc/",
  );
  asUmoci(
    "in the first layer is invisible and hides nothing",
    "a .wh.a d/ d/.wh..wh..opq d/b .wh.d",
    "a d/ d/b",
  );
  ours("through a link of its own layer hides nothing", "etc/w d/k ; d→/etc d/.wh.w", "d→/etc etc/ etc/w");
  ours(
    "of a directory makes it anew for a child that came before (umoci keeps the attributes that were hidden)",
    [[{ path: "d/", mode: 0o700 }, "d/k"], "d/n .wh.d"],
    "d/ d/n",
  );
  asUmoci("is not remembered by the layers above", "a ; .wh.a ; a(again)", "a(again)");
  asUmoci("of a directory, made again above, does not bring children back", "d/a ; .wh.d ; d/ d/b", "d/ d/b");

  it("of a directory makes it anew with the attributes of a directory that nobody described", () => {
    for (const second of ["d/n .wh.d", ".wh.d d/n"]) {
      const image = merge([[{ path: "d/", mode: 0o700, uid: 7 }, "d/k"], second]);
      expect(image.node("d")).toMatchObject({ mode: 0o755, uid: 0, mtimeSec: 0 });
    }
  });

  const strange = [
    Buffer.from("new\nline"),
    Buffer.from("sp ace"),
    Buffer.from([0xff, 0xfe, 0x41]),
    Buffer.from("back\\slash"),
  ];
  it("hides names with newline, space, bytes that are no UTF-8, and backslash", () => {
    for (const name of strange) {
      const lower = [{ path: name, content: "x" }, "keep"];
      expect(merge([lower, [{ path: Buffer.concat([Buffer.from(".wh."), name]) }]]).listing).toBe("keep");
    }
  });
});

describe("what only looks like a whiteout", () => {
  for (const name of [".wh.", ".wh..", ".wh..."]) {
    for (const path of [name, `d/${name}`, `${name}/f`]) {
      it(`${path} is an error that names layer and path`, () => {
        expect(() => merge(`a d/b ; ${path}`)).toThrow(
          expect.objectContaining({
            code: "LAYER_CORRUPT",
            message: expect.stringMatching(`^layer 2 of 2, sha256:[0-9a-f]{12}\\.\\.\\.: "${path}" `),
          }),
        );
      });
    }
  }

  it("a marker that is no regular file is content, with a warning", () => {
    const image = merge([
      "d/x foo l e/y",
      ["d/.wh.x/", ".wh.l→t", "e/.wh..wh..opq/", { path: ".wh.foo", type: "fifo" }],
    ]);
    expect(image.listing).toBe(".wh.foo(fifo) .wh.l→t d/ d/.wh.x/ d/x e/ e/.wh..wh..opq/ e/y foo l");
    expect(image.warnings).toEqual([
      expect.stringMatching(/^layer 2 of 2, .*"d\/\.wh\.x\/" .*directory/),
      expect.stringMatching(/"\.wh\.l" .*symlink/),
      expect.stringMatching(/"e\/\.wh\.\.wh\.\.opq\/" .*directory/),
      expect.stringMatching(/"\.wh\.foo" .*fifo/),
    ]);
  });

  ours(
    "AUFS's own files are never visible and imply no directory",
    ".wh..wh.aufs .wh..wh.plnk/ .wh..wh.plnk/1.2 d/.wh..wh.orph/x a",
    "a",
  );
  ours("AUFS's own files make no directory of a file", "f ; f/.wh..wh.orph/x", "f");
  ours(
    "a hard link to one of AUFS's own files has its content (umoci does not know them)",
    ".wh..wh.plnk/1.2(bytes) a=.wh..wh.plnk/1.2 b=./.wh..wh.plnk/1.2",
    "a(bytes) b(bytes)",
  );
  ours(
    "a hard link to one of AUFS's own files finds it behind itself",
    "a=.wh..wh.plnk/1 .wh..wh.plnk/1=.wh..wh.plnk/2 .wh..wh.plnk/2(bytes)",
    "a(bytes)",
  );
  ours(
    "a whiteout that is a hard link, as AUFS makes them, hides",
    "a b c ; .wh..wh.aufs .wh.a=.wh..wh.aufs .wh.b=.wh.a",
    "c",
  );
});
