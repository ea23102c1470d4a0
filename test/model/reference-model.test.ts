/** The model itself, held against trees that were worked out by hand: an oracle that nobody has checked proves nothing. */
import { describe, expect, it } from "vitest";
import { type ModelEntry, modelOf } from "./reference-model.js";

/** As in test/tree/notation.ts: `d/`, `l→target`, `h=target`, layers divided by `;`; but `f(3)` is a file of three bytes, `f` one of nine. */
function layersOf(image: string): ModelEntry[][] {
  return image.split(";").map((layer) => layer.split(" ").filter(Boolean).map(entryOf));
}

function entryOf(word: string): ModelEntry {
  const [, path, sign, rest] = /^([^→=(]*)([→=(]?)(.*?)\)?$/.exec(word)!;
  const types = {
    "→": "symlink",
    "=": "hardlink",
    "(": "file",
    "": path!.endsWith("/") ? "directory" : "file",
  };
  const size = sign === "(" ? Number(rest) : sign === "" && !path!.endsWith("/") ? 9 : 0;
  return {
    ...plain,
    path: path!,
    type: types[sign as keyof typeof types] as ModelEntry["type"],
    target: sign === "→" || sign === "=" ? rest! : "",
    size,
    pieces: [{ offset: 0, bytes: Buffer.alloc(size, "x") }],
  };
}

const plain: ModelEntry = {
  ...{ path: "", type: "file", mode: 0o755, uid: 0, gid: 0, mtimeSec: 7, mtimeNsec: 0 },
  ...{ target: "", major: 0, minor: 0, xattrs: [], size: 0, pieces: [] },
};

/** Paths with what marks their types; names of one file are told by the first of them. */
function listing(layers: ReadonlyArray<readonly ModelEntry[]>): string {
  const { lines, refusal } = modelOf(layers);
  if (!lines) return `layer ${refusal!.layer}: ${refusal!.reason}`;
  const words = lines.slice(1).map(({ path, type, size, linkTarget, firstName }) => {
    if (type === "directory") return `${path}/`;
    if (firstName !== path) return `${path}=${firstName}`;
    return type === "symlink" ? `${path}→${linkTarget}` : `${path}(${size})`;
  });
  return words.join(" ");
}

describe("the model", () => {
  it.each([
    ["x/ x/a x/b/c ; x/.wh..wh..opq", "x/"],
    ["x/a x/b/c ; x/new(1) x/.wh..wh..opq", "x/ x/new(1)"],
    ["x/a x/b/c ; x/.wh..wh..opq x/new(1)", "x/ x/new(1)"],
    ["x/a x/b/c x/b/d x/e/f ; x/.wh..wh..opq x/b/d(1)", "x/ x/b/ x/b/d(1)"],
    ["s/d/f a/d/f ; s/d/f(1) .wh..wh..opq", "s/ s/d/ s/d/f(1)"],
    ["a/b c/d/ e ; .abc(1) .wh..wh..opq f(1)", ".abc(1) f(1)"],
    ["baz .baz ; .wh.baz ; n(1) ; .wh..baz", "n(1)"],
    ["baz .baz(1) ; .wh.baz", ".baz(1)"],
    ["f(9) d/k ; .wh.f f(1) .wh.d d/n(1)", "d/ d/n(1) f(1)"],
    ["f(9) d/k ; f(1) .wh.f d/n(1) .wh.d", "d/ d/n(1) f(1)"],
    ["foo/b(1) ; .wh.none none/.wh.a", "foo/ foo/b(1)"],
    ["etc/p(1) l→/etc ; .wh.l", "etc/ etc/p(1)"],
    ["etc/p(1) etc/w l→/etc ; l/.wh.w", "etc/ etc/p(1) l→/etc"],
    ["etc/w(1) l→/etc ; l/.wh.w .wh.l", "etc/ etc/w(1)"],
    ["etc/w(1) l→/etc ; l/ l/.wh..wh..opq", "etc/ etc/w(1) l/"],
    ["a/w(1) b/w l→/a ; l→/b l/.wh..wh..opq", "a/ a/w(1) b/ l→/b"],
    ["a(1) .wh.a d/b(1) d/.wh..wh..opq", "a(1) d/ d/b(1)"],
    [".wh.a/ .wh.b→t", ".wh.a/ .wh.b→t"],
    ["l→l ; l/ l/f(1)", "l/ l/f(1)"],
    ["d/k ; d(1)", "d(1)"],
    ["f ; f/a(1)", "f/ f/a(1)"],
    ["t/ l→t ; l/ l/g(1)", "l/ l/g(1) t/"],
    ["l→../../var/new l/f(1)", "l→../../var/new var/ var/new/ var/new/f(1)"],
    ["a/b/ c→a/b l→c/../x l/f(1)", "a/ a/b/ a/x/ a/x/f(1) c→a/b l→c/../x"],
    ["../v/f(1) /../v/g(1) a/../../b(1) x/y/../z(1)", "b(1) v/ v/f(1) v/g(1) x/ x/z(1)"],
  ])("has the tree of %s", (image, tree) => expect(listing(layersOf(image))).toBe(tree));

  it.each([
    ["a(1) b=a ; .wh.a", "b(1)"],
    ["a(1) b=a c=b ; b(22)", "a(1) b(22) c=a"],
    ["a(1) ; b=a a(22)", "a(22) b(1)"],
    ["a(1) ; a(22) b=a", "a(22) b=a"],
    ["a(1) ; .wh.a b=a", "b(1)"],
    ["a(1) ; .wh.a b=a a(22)", "a(22) b=a"],
    ["d=c c=b b=a a(1)", "a(1) b=a c=a d=a"],
    ["b=a a(1) b(22)", "a(1) b(22)"],
    ["t(1) l→t h=l", "h→t l=h t(1)"],
    ["d/f(1) l→d h=l/f", "d/ d/f(1) h=d/f l→d"],
    ["a=.wh..wh.plnk/1 .wh..wh.plnk/1(1) b=a", "a(1) b=a"],
    ["a b(1) ; .wh..wh.aufs .wh.a=.wh..wh.aufs", "b(1)"],
  ])("has the links of %s", (image, tree) => expect(listing(layersOf(image))).toBe(tree));

  it.each([
    ["a ; d/.wh.", "layer 2: a whiteout of nothing: d/.wh."],
    ["a ; .wh...", "layer 2: a whiteout of nothing: .wh..."],
    [".wh../f", "layer 1: a whiteout of nothing: .wh../f"],
    ["b=none", "layer 1: a hard link to nothing: b=none"],
    ["a ; .wh.a ; b=a", "layer 3: a hard link to nothing: b=a"],
    ["d/ ; b=d", "layer 2: a hard link to a directory: b"],
    ["a=b b=a", "layer 1: hard links in a circle: a"],
    ["a→b b→a a/f", "layer 1: links in a circle: a/f"],
    [".wh..wh.plnk/1 ; b=.wh..wh.plnk/1", "layer 2: a hard link to nothing: b=.wh..wh.plnk/1"],
    ["a/.. ", "layer 1: the root is a file"],
  ])("refuses %s", (image, reason) => expect(listing(layersOf(image))).toBe(reason));

  it("keeps attributes that a layer does not give, and leaves out what must not travel", () => {
    const directory = { ...plain, path: "d/", type: "directory" as const, mode: 0o1777, uid: 5 };
    const xattrs = [
      ["user.b", "1"],
      ["user.a", "old"],
      ["trusted.overlay.opaque", "y"],
      ["user.overlay.x", "y"],
      ["security.selinux", "y"],
      ["system.nfs4_acl", "y"],
      ["user.a", "new"],
    ] as const;
    const root = { ...plain, path: "./", type: "directory" as const, mode: 0o711, gid: 6, mtimeSec: -1 };
    const { lines } = modelOf([[root, { ...directory, xattrs }], layersOf("d/e/f(1)")[0]!]);
    expect(lines![0]).toMatchObject({ path: "", mode: 0o711, gid: 6, mtimeSec: -1, nlink: 3 });
    const kept = [
      ["user.a", "new"],
      ["user.b", "1"],
    ];
    expect(lines![1]).toMatchObject({ path: "d", mode: 0o1777, uid: 5, mtimeSec: 7, nlink: 3, xattrs: kept });
    expect(lines![2]).toMatchObject({ path: "d/e", mode: 0o755, uid: 0, mtimeSec: 0, nlink: 2, xattrs: [] });
  });

  it("gives a hard link the attributes of its target, a symlink 0777, and user attributes to files and directories only", () => {
    const link = { ...plain, path: "h", type: "hardlink" as const, target: "f", mode: 0o600, uid: 9 };
    const file = { ...plain, path: "f", mode: 0o4751, uid: 3, xattrs: [["user.a", ""]] as const };
    const symlink = { ...file, path: "l", type: "symlink" as const, target: "f" };
    const { lines } = modelOf([[file, link, symlink]]);
    expect(lines![1]).toMatchObject({ path: "f", mode: 0o4751, uid: 3, nlink: 2, xattrs: [["user.a", ""]] });
    expect(lines![2]).toMatchObject({ path: "h", mode: 0o4751, uid: 3, nlink: 2, firstName: "f" });
    expect(lines![3]).toMatchObject({ path: "l", mode: 0o777, uid: 3, xattrs: [] });
  });
});
