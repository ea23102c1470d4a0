/**
 * What keeps connections to the kernel over the death of the process that serves them: a FUSE connection lives as long as anybody has its
 * /dev/fuse open, and requests wait meanwhile. Two things can do that for a server: a holder (native/holder, holder-keeper.ts), a tiny process of skim's
 * own, and systemd with its file descriptor store (systemd-keeper.ts). Which of them is decided by `openDescriptorKeeper` (open-keeper.ts).
 *
 * The life of a server: open the keeper; `takeHeld`, and serve each (NativeEngine.serve) or `release` it; `ready`; then `mount`, serve, `keepInitResult`
 * for each new one; `beat` from a timer. It ends by letting go of its sessions (NativeSession.letGo) and `leave`, or by dying.
 */

export interface HeldConnection {
  /** A letter or digit, then up to 63 letters, digits, `_`, `.` and `-`. */
  readonly id: string;
  /** Of /dev/fuse, a copy: the caller's to close, or to hand to a session. */
  readonly descriptor: number;
  /** Absolute, without symlinks. */
  readonly mountpoint: string;
  /**
   * `NativeSession.initResult` of the server before. Undefined where nobody has served it yet, or the server died before it could tell;
   * `NativeEngine.serve` finds out which.
   */
  readonly initResult?: Uint8Array;
  /** The server's own words (JSON: archive, source, ...), at most 4 KiB of UTF-8 without NUL; never read by a keeper. */
  readonly note: string;
}

export interface MountRequest {
  /** As in HeldConnection. One that is kept already is refused with IN_USE. */
  readonly id: string;
  readonly mountpoint: string;
  /** What `mount` and `df` show as the source. */
  readonly fsName: string;
  readonly allowOther: boolean;
  readonly note: string;
}

/** Keeps connections to the kernel over the death of the process that serves them. */
export interface DescriptorKeeper {
  readonly name: "holder" | "systemd";
  /** How often servers have been started again under what is kept. 0 where systemd does it and does not tell. */
  readonly restarts: number;
  /**
   * Resolves when a newer server asks for the place of this one, which must let go of all its sessions (NativeSession.letGo) and then `leave({ all: false })`. One that
   * does not within 15 s is killed. From then on `mount` fails with IN_USE. Never resolves under systemd, which stops the one before it starts the other.
   */
  readonly takenOver: Promise<void>;
  /** What was kept before this server came, each with a new copy of its descriptor, but for mounts that have ended meanwhile. To be called once. */
  takeHeld(): Promise<readonly HeldConnection[]>;
  /**
   * Opens /dev/fuse, mounts it, keeps it; resolves to a copy of the descriptor. FUSE_INIT is still to come. Throws as connectFuse does (MOUNT_FAILED,
   * ENVIRONMENT), IN_USE for an id that is kept already, USAGE for an id or a note of another form; nothing is left then.
   */
  mount(request: MountRequest): Promise<HeldConnection>;
  /** After FUSE_INIT: what a next server must know of it. */
  keepInitResult(id: string, initResult: Uint8Array): Promise<void>;
  /** Keeps it no longer. The mount is the caller's to unmount, before: where nobody else serves it, it is dead from now on. One that is not kept is no error. */
  release(id: string): Promise<void>;
  /**
   * The server lives and its event loop turns. To be called from a timer from the opening of the keeper on, ten times in `watchdogMs` or oftener: what is too often
   * is not sent. `served` is the number of requests answered since the server began; a holder that is allowed to abort connections does so only while that is 0.
   */
  beat(served?: number): void;
  /**
   * The server serves: whoever starts it again, and systemd where there is one, may know. `status` is one line for people. A process that waits for its child to
   * come up is to be told by that child itself.
   */
  ready(status: string): void;
  /**
   * A planned end of the server: it is not to be started again; what is kept stays kept. With `all` the holder ends too, when it holds nothing.
   * Closes the keeper; no other call may follow.
   */
  leave(how: { readonly all: boolean }): Promise<void>;
}

const idForm = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;
/** Of a note in UTF-8. It stands in one packet with two paths. */
export const noteBytesMax = 4096;

/** What is wrong with what a caller wants kept; undefined where nothing is. */
export function refusalOf({ id, note }: Pick<MountRequest, "id" | "note">): string | undefined {
  if (!idForm.test(id))
    return `the id ${JSON.stringify(id)} must be a letter or digit, then up to 63 letters, digits, "_", "." and "-"`;
  if (note.includes("\0")) return "the note has a NUL in it";
  if (Buffer.byteLength(note) > noteBytesMax)
    return `the note has ${Buffer.byteLength(note)} bytes, at most ${noteBytesMax} are kept`;
  return undefined;
}
