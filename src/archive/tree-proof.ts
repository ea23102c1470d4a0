/**
 * Which file a TreeProof (archive.ts) is of. A proof is the word of somebody who has checked an archive's tree before, so that a start need not do it again: it takes about 10 us an inode, twice a
 * start, and a start of an image that is cached takes a third of a second in all.
 *
 * It holds for one file as it is: device, inode, size, and the times of its last change. ctime cannot be set, so a file that was written to or put in its
 * place since is another one. The CRC of every section is compared all the same, and whoever serves from the records checks every offset
 * once more (native/fuse), so a wrong word can make a mount show nonsense, and no more.
 */
import type { BigIntStats } from "node:fs";

export function fileIdentityOf(stat: BigIntStats): string {
  return [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(":");
}
