/** What must hold of every reply, and, where the tree is that of an archive, what it must say. */
import type { Archive } from "../../src/archive/archive.js";
import type { ByteString } from "../../src/base/byte-string.js";
import {
  attrReplyBytes,
  decodeAttr,
  decodeDirectory,
  decodeEntry,
  decodeXattrNames,
  entryBytes,
  initReplyBytes,
  opcodes,
  opcodesWithoutReply,
  type Reply,
  requestHeaderBytes,
  statfsReplyBytes,
} from "../support/fuse-protocol.js";
import { contentByte } from "./fuse-trees.js";
import { claim } from "./fuzzer.js";

export interface SentRequest {
  readonly unique: bigint;
  readonly opcode: number;
  readonly nodeid: bigint;
  readonly body: Buffer;
  /** The header has another length than the packet. */
  readonly isMisshapen: boolean;
}

const EINVAL = 22;
const requestBytesMax = 16 * 1024;

/** The request that a packet is; undefined where it is too short to be one. */
export function sentRequest(packet: Buffer): SentRequest | undefined {
  if (packet.length < requestHeaderBytes) return undefined;
  return {
    opcode: packet.readUInt32LE(4),
    unique: packet.readBigUInt64LE(8),
    nodeid: packet.readBigUInt64LE(16),
    body: packet.subarray(requestHeaderBytes),
    isMisshapen: packet.readUInt32LE(0) !== Math.min(packet.length, requestBytesMax),
  };
}

/** A request that cannot be told apart from one that was cut is refused, whatever it asks for. */
export const expectsReply = (request: SentRequest): boolean =>
  request.isMisshapen || !opcodesWithoutReply.has(request.opcode);

export function checkReply(request: SentRequest, reply: Reply): void {
  const { opcode, body } = request;
  claim(reply.error <= 0 && reply.error >= -4095, `error ${reply.error} is none`);
  if (request.isMisshapen)
    claim(reply.error === -EINVAL, "a request of a wrong length is refused with EINVAL");
  if (reply.error !== 0) {
    claim(reply.body.length === 0, "an error has no body");
    return;
  }
  const length = reply.body.length;
  const exactly = (bytes: number) => claim(length === bytes, `a body of ${length} bytes instead of ${bytes}`);
  switch (opcode) {
    case opcodes.lookup:
      exactly(entryBytes);
      break;
    case opcodes.getattr:
      exactly(attrReplyBytes);
      break;
    case opcodes.statfs:
      exactly(statfsReplyBytes);
      break;
    case opcodes.init:
      exactly(initReplyBytes);
      break;
    case opcodes.readlink:
      return;
    case opcodes.read:
      claim(length <= body.readUInt32LE(16), "a read has no more than was asked for");
      break;
    case opcodes.readdir:
    case opcodes.readdirplus:
      claim(length <= body.readUInt32LE(16), "a directory has no more than was asked for");
      decodeDirectory(reply.body, opcode === opcodes.readdirplus);
      return;
    case opcodes.getxattr:
    case opcodes.listxattr: {
      const asked = body.readUInt32LE(0);
      if (asked === 0) {
        exactly(8);
        break;
      }
      claim(length <= asked, "an attribute has no more than was asked for");
      if (opcode === opcodes.listxattr) decodeXattrNames(reply.body);
      return;
    }
    default:
      exactly(0);
  }
}

/** `isUnsure`: spans that were landed with other bytes than theirs. */
export function checkAgainst(
  archive: Archive,
  request: SentRequest,
  reply: Reply,
  isUnsure: (span: number) => boolean,
): void {
  const { opcode, body, nodeid } = request;
  if (reply.error !== 0 || nodeid > BigInt(archive.inodeCount)) return;
  const ino = Number(nodeid);
  switch (opcode) {
    case opcodes.lookup: {
      const name = body.subarray(0, body.indexOf(0)).toString("latin1") as ByteString;
      const found = decodeEntry(reply.body);
      claim(
        found.nodeid === BigInt(archive.lookup(ino, name)),
        `lookup of ${JSON.stringify(name)} in ${ino}`,
      );
      if (found.nodeid !== 0n)
        claim(found.attributes.ino === found.nodeid, "an entry has its own attributes");
      return;
    }
    case opcodes.getattr: {
      const { attributes } = decodeAttr(reply.body);
      const inode = archive.inode(ino);
      claim(attributes.size === BigInt(inode.size) && attributes.mode === inode.mode, `attributes of ${ino}`);
      return;
    }
    case opcodes.readdir:
    case opcodes.readdirplus: {
      for (const { name, next } of decodeDirectory(reply.body, opcode === opcodes.readdirplus)) {
        const position = Number(next) - 3;
        if (position < 0) continue;
        const wanted = archive.dirent(ino, position).name;
        claim(name.toString("latin1") === wanted, `name ${position} of directory ${ino}`);
      }
      return;
    }
    case opcodes.read:
      checkRead(archive, ino, request, reply.body, isUnsure);
  }
}

function checkRead(
  archive: Archive,
  ino: number,
  { body }: SentRequest,
  bytes: Buffer,
  isUnsure: (span: number) => boolean,
): void {
  const start = body.readBigUInt64LE(8);
  const { size } = archive.inode(ino);
  const left = start < BigInt(size) ? size - Number(start) : 0;
  const length = Math.min(left, body.readUInt32LE(16));
  claim(bytes.length === length, `a read of ${ino} has ${bytes.length} bytes instead of ${length}`);
  const offset = Number(start);
  let at = offset;
  const wrong = (what: string) => `${what} of inode ${ino} at ${at}`;
  const expectZeros = (end: number) => {
    for (; at < end; at++) claim(bytes[at - offset] === 0, wrong("a hole"));
  };
  for (const extent of archive.extents(ino)) {
    const extentEnd = Math.min(extent.fileOffset + extent.length, offset + length);
    if (extentEnd <= at) continue;
    expectZeros(Math.min(extent.fileOffset, offset + length));
    while (at < extentEnd) {
      const layerOffset = extent.layerOffset + at - extent.fileOffset;
      const span = archive.spanIndexAt(extent.layer, layerOffset);
      const { uncompressedOffset, uncompressedLength } = archive.span(span);
      const end = Math.min(extentEnd, at + uncompressedOffset + uncompressedLength - layerOffset);
      const within = layerOffset - uncompressedOffset - at;
      if (!isUnsure(span))
        for (let i = at; i < end; i++)
          claim(
            bytes[i - offset] === contentByte(span, within + i),
            wrong(`span ${span}, byte ${within + i},`),
          );
      at = end;
    }
  }
  expectZeros(offset + length);
}
