/**
 * A TCP proxy with a network in it: what a client sends reaches the upstream as if the profile's network lay between them, and back. See link.ts for the network.
 *
 * Memory is bounded: a connection whose lane holds more than twice what the network has on its way is read again when half of that has left, so that
 * the sender is held up by TCP as it would be. A receiver that does not read holds up its lane in the same way.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { Alarm } from "./alarm.js";
import { type Lane, Link } from "./link.js";
import { type NetworkProfile, unshaped } from "./profiles.js";
import { RequestCounter, Traffic, type TrafficReport } from "./traffic.js";

export interface UpstreamAddress {
  readonly host: string;
  readonly port: number;
}

/** The end of a direction, which comes behind its last byte. */
const end = Symbol("end");
type Piece = Buffer | typeof end;

/** Of the jitter: the same pieces are late in every run. */
const seeds = { up: 1, down: 2 };
const laneBytesMin = 256 * 1024;

/**
 * Pieces that arrive within this share of a round trip are delivered together, as an interrupt of a network card brings several packets: a turn for each of them takes more of a
 * processor than all the bytes do, and that processor is missing to what is measured.
 */
const togetherShare = 0.05;
const togetherMsMax = 1;

/** One direction of one connection. */
interface Course {
  readonly link: Link<Piece>;
  readonly lane: Lane<Piece>;
  readonly from: Socket;
  readonly to: Socket;
  blocked: boolean;
}

export class NetworkProxy {
  readonly port: number;
  readonly #server: Server;
  readonly #upstream: UpstreamAddress;
  readonly #alarm: Alarm;
  readonly #courses = new Map<Lane<Piece>, Course>();
  readonly #sockets = new Set<Socket>();
  #profile: NetworkProfile;
  #links: { readonly up: Link<Piece>; readonly down: Link<Piece> };
  #traffic = new Traffic(performance.now());

  /** Listens on a free port of loopback; unshaped until told otherwise. */
  static async start(upstream: UpstreamAddress): Promise<NetworkProxy> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", resolve);
    });
    return new NetworkProxy(server, upstream);
  }

  private constructor(server: Server, upstream: UpstreamAddress) {
    this.#server = server;
    this.#upstream = upstream;
    this.#profile = unshaped;
    this.#links = linksOf(unshaped);
    this.#alarm = new Alarm(() => this.#advance());
    this.port = (server.address() as AddressInfo).port;
    server.on("connection", (client) => this.#accept(client));
  }

  /** Counts anew, on a network of this profile. Connections that are open are ended: they belong to what was measured before. */
  reset(profile: NetworkProfile): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#profile = profile;
    this.#links = linksOf(profile);
    this.#traffic = new Traffic(performance.now());
  }

  report(): TrafficReport {
    return this.#traffic.report();
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    await this.#alarm.close();
  }

  #accept(client: Socket): void {
    const { up, down } = this.#links;
    const traffic = this.#traffic;
    traffic.connections++;
    const upstream = connect({ ...this.#upstream, allowHalfOpen: true, noDelay: true });
    // The client believes itself connected already; its SYN and the answer to it would have taken a round trip.
    const opensAt = performance.now() + this.#profile.roundTripMs;
    const requests = new RequestCounter();
    this.#carry(up, opensAt, client, upstream, (piece) => {
      traffic.bytesUp += piece.length;
      traffic.requests += requests.take(piece);
    });
    this.#carry(down, 0, upstream, client);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.once("close", (hadError) => {
        this.#sockets.delete(socket);
        // Both ends were seen: what is on its way to the other side still arrives. Else it broke.
        if (hadError || !socket.readableEnded) other.destroy();
      });
    }
  }

  #carry(link: Link<Piece>, opensAt: number, from: Socket, to: Socket, onBytes?: (piece: Buffer) => void) {
    const lane = link.open(opensAt);
    const course: Course = { link, lane, from, to, blocked: false };
    this.#courses.set(lane, course);
    const { pieceBytes } = link;
    const bytesMax = this.#laneBytesMax();
    from.on("data", (bytes: Buffer) => {
      onBytes?.(bytes);
      const now = performance.now();
      for (let at = 0; at < bytes.length; at += pieceBytes) {
        const piece = bytes.subarray(at, at + pieceBytes);
        link.push(lane, piece, piece.length, now);
      }
      if (lane.bytes > bytesMax) from.pause();
      this.#advance();
    });
    from.once("end", () => {
      link.push(lane, end, 0, performance.now());
      this.#advance();
    });
    to.on("drain", () => {
      course.blocked = false;
      this.#advance();
    });
    to.once("close", () => {
      link.close(lane);
      this.#courses.delete(lane);
    });
  }

  /** Delivers what has arrived, in both directions, and asks to be woken for the next. */
  #advance(): void {
    const now = performance.now();
    const { up, down } = this.#links;
    const isBlocked = (lane: Lane<Piece>) => this.#courses.get(lane)?.blocked ?? true;
    const corked = new Set<Socket>();
    for (const link of [up, down])
      for (const { lane, piece, bytes } of link.advance(now, isBlocked)) {
        const course = this.#courses.get(lane);
        if (!course) continue;
        if (link === down && bytes > 0) this.#traffic.addDown(now, bytes);
        if (!corked.has(course.to)) course.to.cork();
        corked.add(course.to);
        this.#deliver(course, piece);
      }
    for (const socket of corked) socket.uncork();
    const next = Math.min(up.nextAt(isBlocked), down.nextAt(isBlocked));
    const togetherMs = Math.min(this.#profile.roundTripMs * togetherShare, togetherMsMax);
    this.#alarm.set(next <= now ? next : Math.max(next, now + togetherMs));
  }

  #deliver(course: Course, piece: Piece): void {
    const { lane, from, to } = course;
    if (piece === end) to.end();
    else if (!to.destroyed && !to.write(piece)) course.blocked = true;
    if (from.isPaused() && lane.bytes <= this.#laneBytesMax() / 2) from.resume();
  }

  #laneBytesMax(): number {
    const { roundTripMs, bitsPerSecond } = this.#profile;
    const bytesUnderWay = Number.isFinite(bitsPerSecond) ? (bitsPerSecond / 8 / 1000) * roundTripMs : 0;
    return Math.max(2 * bytesUnderWay, laneBytesMin);
  }
}

function linksOf(profile: NetworkProfile) {
  return { up: new Link<Piece>(profile, seeds.up), down: new Link<Piece>(profile, seeds.down) };
}
