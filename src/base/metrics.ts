/**
 * Counters of what happened, by name. Names end in their unit, as Prometheus wants them; a room declares the ones it counts,
 * tests assert on them, and `skim run --json`, the demo and the daemon print them.
 */
export class Counters<Name extends string> {
  readonly #values: Map<Name, number>;

  constructor(names: readonly Name[]) {
    this.#values = new Map(names.map((name) => [name, 0]));
  }

  add(name: Name, amount = 1): void {
    this.#values.set(name, (this.#values.get(name) ?? 0) + amount);
  }

  get(name: Name): number {
    return this.#values.get(name) ?? 0;
  }

  snapshot(): Record<Name, number> {
    return Object.fromEntries(this.#values) as Record<Name, number>;
  }
}
