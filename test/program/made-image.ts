/** Images in memory: an archive of one plain layer, made of files, and the content that serves it. */
import { decodeArchive } from "../../src/archive/archive-reader.js";
import type { ByteString } from "../../src/base/byte-string.js";
import { type FileContent, ImageFilesystem } from "../../src/filesystem/image-filesystem.js";
import { type MayRead, ProgramImage } from "../../src/program/program-image.js";
import type { TreeNode } from "../../src/tree/image-tree.js";
import { contentsOf, directory, encoded, file, layerIndex, symlink } from "../archive/sample-archive.js";

/** A file of mode 0755, a text file of mode 0755, or a symlink. */
export type MadeFile = Buffer | string | { readonly link: string } | { readonly plain: Buffer | string };

export interface MadeImage {
  readonly archive: ReturnType<typeof decodeArchive>;
  readonly content: FileContent;
  /** Pieces of the layer that were read, in order. */
  readonly reads: { offset: number; length: number }[];
  image(mayRead?: MayRead): ProgramImage;
}

export const bytes = (text: string) => text as ByteString;

/** Files by absolute path, in the order in which they lie in the layer. */
export function madeImage(files: Readonly<Record<string, MadeFile>>, spanBytes = 4096): MadeImage {
  const root = directory();
  const pieces: Buffer[] = [];
  let layerBytes = 0;
  for (const [path, made] of Object.entries(files)) {
    const names = path.split("/").filter(Boolean) as ByteString[];
    const last = names.pop()!;
    let parent = root;
    for (const name of names) {
      const known = parent.children!.get(name) ?? directory();
      (parent.children as Map<ByteString, TreeNode>).set(name, known);
      parent = known;
    }
    const node = nodeOf(made);
    (parent.children as Map<ByteString, TreeNode>).set(last, node);
  }
  function nodeOf(made: MadeFile): TreeNode {
    if (typeof made === "object" && "link" in made) return symlink(made.link);
    const isPlain = typeof made === "object" && "plain" in made;
    const piece = Buffer.from(isPlain ? made.plain : (made as Buffer | string));
    pieces.push(piece);
    const offset = layerBytes;
    layerBytes += piece.length;
    return file(offset, piece.length, { mode: isPlain ? 0o644 : 0o755 });
  }
  const layer = Buffer.concat([...pieces, Buffer.alloc(1)]);
  const spans = [];
  for (let start = 0; start < layer.length; start += spanBytes) {
    const length = Math.min(spanBytes, layer.length - start);
    spans.push({ length, compressedStart: start, compressedEnd: start + length });
  }
  const archive = decodeArchive(
    encoded(contentsOf(root, [layerIndex("made", "none", layer.length, spans)])),
    "made",
  );
  const reads: { offset: number; length: number }[] = [];
  const content: FileContent = {
    async read({ extents, offset, into }) {
      const [extent] = extents;
      if (!extent || extents.length !== 1) throw new Error("files of made images have one extent");
      const start = extent.layerOffset + offset;
      reads.push({ offset: start, length: into.length });
      layer.copy(into, 0, start, start + into.length);
      return into.length;
    },
  };
  const image = (mayRead?: MayRead) =>
    new ProgramImage(new ImageFilesystem({ archive, content }), mayRead ? { mayRead } : {});
  return { archive, content, reads, image };
}
