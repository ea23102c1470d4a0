/** Networks between a worker and its registry. */
export interface NetworkProfile {
  /** As --network takes it. */
  readonly name: string;
  readonly roundTripMs: number;
  /** Of each direction; shared by all connections. Infinite: the bytes are passed on as they come. */
  readonly bitsPerSecond: number;
  /** How far the times of pieces are spread, around half the round trip; less than the round trip. */
  readonly jitterMs: number;
}

const profile = (name: string, roundTripMs: number, bitsPerSecond: number): NetworkProfile => ({
  name,
  roundTripMs,
  bitsPerSecond,
  // What a quiet path shows: a fiftieth of the round trip.
  jitterMs: roundTripMs / 50,
});

export const networkProfiles: readonly NetworkProfile[] = [
  /** A registry in the same building. The proxy itself adds half a millisecond, and two cores that also serve and receive carry 2 to 5 Gbit/s of it. */
  profile("datacentre", 0.5, 10e9),
  /** In the same cloud region. */
  profile("region", 5, 1e9),
  /** In the next country. */
  profile("far", 20, 1e9),
  /** On another continent. */
  profile("wan", 80, 100e6),
];

/** Not shaped at all: what is prepared through the proxy and not measured. */
export const unshaped: NetworkProfile = profile("unshaped", 0, Number.POSITIVE_INFINITY);

/** Throws where there is none of that name. */
export function networkProfile(name: string): NetworkProfile {
  const found = [...networkProfiles, unshaped].find((one) => one.name === name);
  if (!found) throw new Error(`there is no network ${name}`);
  return found;
}
