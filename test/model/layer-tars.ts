/** Random layers as real tars, and as blobs. Sparse members: GNU tar manual, "Storing Sparse Files"; tar.h of GNU tar for the old header. */
import { gzipSync } from "node:zlib";
import { buildTar, type PaxRecord, padded, type TarEntrySpec, tarMember } from "../support/tar-builder.js";
import { zstdFixture } from "../support/zstd.js";
import type { RandomEntry, RandomLayer, StoredAs } from "./random-layers.js";

export interface BuiltLayer {
  readonly tar: Buffer;
  readonly blob: Buffer;
}

/** The same for the same layer. */
export function builtLayer({ entries, storedAs }: RandomLayer): BuiltLayer {
  const tar = buildTar(entries.map((entry) => tarMember(memberOf(entry))));
  return { tar, blob: stored(tar, storedAs) };
}

function stored(tar: Buffer, storedAs: StoredAs): Buffer {
  switch (storedAs) {
    case "plain":
      return tar;
    case "gzip":
      return gzipSync(tar, { level: 1 });
    case "members": {
      const middle = tar.length >> 1;
      const members = [tar.subarray(0, middle), Buffer.alloc(0), tar.subarray(middle)];
      return Buffer.concat(members.map((member) => gzipSync(member, { level: 1 })));
    }
    case "zstd":
      return zstdFixture(tar);
  }
}

const raw = (text: string) => Buffer.from(text, "latin1");

function memberOf(entry: RandomEntry): TarEntrySpec {
  const { type, mode, uid, gid, mtimeSec, mtimeNsec, format, major, minor } = entry;
  // As records, for here they may come twice and in any order.
  const xattrs = entry.xattrs.map(([name, value]) => [raw(`SCHILY.xattr.${name}`), raw(value)] as const);
  const isLink = type === "symlink" || type === "hardlink";
  const plain: TarEntrySpec = {
    ...{ path: raw(entry.path), type, mode, uid, gid, mtimeSec, mtimeNsec, format, major, minor },
    ...(isLink ? { link: raw(entry.target) } : {}),
    pax: xattrs,
  };
  const data = Buffer.concat(entry.pieces.map(({ bytes }) => bytes));
  const numbers = entry.pieces.flatMap(({ offset, bytes }) => [offset, bytes.length]);
  const sparse = (content: Buffer, records: readonly PaxRecord[], path = plain.path): TarEntrySpec => ({
    ...plain,
    path,
    content,
    pax: [...xattrs, ...records],
  });
  switch (entry.sparseFormat) {
    case undefined:
      return { ...plain, content: data };
    case "old GNU":
      return oldSparse(plain, entry, data);
    case "pax 0.0":
      return sparse(data, [
        ["GNU.sparse.size", String(entry.size)],
        ["GNU.sparse.numblocks", String(entry.pieces.length)],
        ...numbers.map(
          (number, i) => [`GNU.sparse.${i % 2 === 0 ? "offset" : "numbytes"}`, String(number)] as const,
        ),
      ]);
    case "pax 0.1":
      return sparse(
        data,
        [
          ["GNU.sparse.size", String(entry.size)],
          ["GNU.sparse.numblocks", String(entry.pieces.length)],
          ["GNU.sparse.map", numbers.join(",")],
          ["GNU.sparse.name", raw(entry.path)],
        ],
        "GNUSparseFile.1/f",
      );
    case "pax 1.0": {
      const map = [entry.pieces.length, ...numbers].map((number) => `${number}\n`).join("");
      return sparse(
        Buffer.concat([padded(Buffer.from(map)), data]),
        [
          ["GNU.sparse.major", "1"],
          ["GNU.sparse.minor", "0"],
          ["GNU.sparse.name", raw(entry.path)],
          ["GNU.sparse.realsize", String(entry.size)],
        ],
        "GNUSparseFile.1/f",
      );
    }
  }
}

/** Four pieces fit the header, the others a block of 21 behind it. */
function oldSparse(plain: TarEntrySpec, { size, pieces }: RandomEntry, data: Buffer): TarEntrySpec {
  const map = pieces.map(({ offset, bytes }) => octal12(offset) + octal12(bytes.length));
  const block = Buffer.alloc(map.length > 4 ? 512 : 0);
  block.write(map.slice(4).join(""), "latin1");
  return {
    ...plain,
    typeflag: "S",
    size: data.length,
    content: Buffer.concat([block, data]),
    header: (header) => {
      header.write(map.slice(0, 4).join(""), 386, "latin1");
      header[482] = map.length > 4 ? 1 : 0;
      header.write(octal12(size), 483, "latin1");
    },
  };
}

const octal12 = (value: number) => `${value.toString(8).padStart(11, "0")}\0`;
