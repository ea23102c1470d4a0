import type { ByteString } from "../base/byte-string.js";
import type { Xattr } from "./layer-index.js";
import { checkXattrNames, PaxFields, readPaxRecords } from "./pax.js";
import type { TarPosition } from "./tar-position.js";

const noXattrs: readonly Xattr[] = Object.freeze([]);

/** `x`, Solaris' `X`, `g`, and GNU's `L` and `K`: members that say something about members behind them. */
export function isExtendedHeader(typeflag: number): boolean {
  return (
    typeflag === 0x78 || typeflag === 0x58 || typeflag === 0x67 || typeflag === 0x4c || typeflag === 0x4b
  );
}

/** What extended headers have said about the next member: those for it alone, and the global ones so far. */
export class ExtendedHeaders {
  /** From GNU's L and K. */
  longPath: ByteString | undefined;
  longLink: ByteString | undefined;
  readonly #local = new PaxFields();
  #hasLocal = false;
  #global: PaxFields | undefined;
  /** Of `#global`, made when a member needs it and shared by all; not for every header, of which a hostile layer has a million. */
  #globalXattrs: readonly Xattr[] | undefined = noXattrs;

  /** True where a header has been read whose member is still to come. */
  get pending(): boolean {
    return this.#hasLocal || this.longPath !== undefined || this.longLink !== undefined;
  }

  /** Pax records in force for the next member. */
  get fields(): PaxFields | undefined {
    return this.#hasLocal ? this.#local : this.#global;
  }

  /** Reads the content of an extended header. Throws LAYER_CORRUPT, LIMIT_EXCEEDED. */
  take(typeflag: number, bytes: Buffer, start: number, end: number, position: TarPosition): void {
    switch (typeflag) {
      case 0x67: // g
        this.#global ??= new PaxFields();
        readPaxRecords(bytes, start, end, this.#global, true, position);
        this.#globalXattrs = undefined;
        return;
      case 0x4c: // L
        this.longPath = longName(bytes, start, end);
        return;
      case 0x4b: // K
        this.longLink = longName(bytes, start, end);
        return;
      default:
        // A second one takes the place of the first.
        this.#local.reset(this.#global);
        readPaxRecords(bytes, start, end, this.#local, false, position);
        this.#hasLocal = true;
    }
  }

  /** The attributes of the next member; members without records of their own share one list. */
  xattrs(position: TarPosition): readonly Xattr[] {
    const own = this.#hasLocal ? this.#local.xattrs : undefined;
    const global = this.#global?.xattrs;
    if (own !== undefined) return xattrList(global ? new Map([...global, ...own]) : own, position);
    this.#globalXattrs ??= xattrList(global, position);
    return this.#globalXattrs;
  }

  /** The member has come. */
  forget(): void {
    this.longPath = undefined;
    this.longLink = undefined;
    this.#hasLocal = false;
  }
}

/** Undefined for no name: then the header block's own counts, as for Go. */
function longName(bytes: Buffer, start: number, end: number): ByteString | undefined {
  const nul = bytes.subarray(start, end).indexOf(0);
  const nameEnd = nul === -1 ? end : start + nul;
  return nameEnd === start ? undefined : (bytes.toString("latin1", start, nameEnd) as ByteString);
}

function xattrList(xattrs: Map<ByteString, ByteString> | undefined, position: TarPosition): readonly Xattr[] {
  if (xattrs === undefined || xattrs.size === 0) return noXattrs;
  const list: Xattr[] = [];
  let listBytes = 0;
  for (const [name, value] of xattrs) {
    listBytes += name.length + 1;
    list.push({ name, value });
  }
  checkXattrNames(listBytes, position);
  return list;
}
