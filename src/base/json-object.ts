/**
 * Reads the fields of parsed JSON that must have exactly one shape. For what a mount server reads when it starts: zod takes longer to load there than
 * everything else that a start waits for. Throws Error with the field and what is wrong with it; the caller names the document.
 */
export class JsonObject {
  readonly #fields: Readonly<Record<string, unknown>>;
  /** Of the object in its document; "" for the document itself. */
  readonly #path: string;

  constructor(json: unknown, path = "") {
    if (typeof json !== "object" || json === null || Array.isArray(json))
      throw new Error(`${path || "the document"}: not an object`);
    this.#fields = json as Record<string, unknown>;
    this.#path = path;
  }

  /** Throws where there are other fields than these. */
  only(...names: readonly string[]): void {
    const other = Object.keys(this.#fields).find((name) => !names.includes(name));
    if (other !== undefined) throw new Error(`${this.#path || "the document"}: no such field: ${other}`);
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#fields, name);
  }

  /** Text with at least `lengthMin` characters. */
  text(name: string, lengthMin = 0): string {
    return this.custom(name, isText, lengthMin === 0 ? "not text" : "missing, empty or not text", lengthMin);
  }

  /** A whole number, `min` (in) to `max` (in). */
  integer(name: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number {
    const isFitting = (value: unknown): value is number =>
      Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max;
    return this.custom(name, isFitting, `not a whole number from ${min} to ${max}`);
  }

  /** A number, `min` (in) or more. */
  number(name: string, min: number): number {
    const isFitting = (value: unknown): value is number =>
      typeof value === "number" && Number.isFinite(value) && value >= min;
    return this.custom(name, isFitting, `not a number from ${min} on`);
  }

  texts(name: string, lengthMax: number = Number.POSITIVE_INFINITY): string[] {
    const isFitting = (value: unknown): value is string[] =>
      Array.isArray(value) && value.length <= lengthMax && value.every((one) => isText(one, 0));
    return this.custom(name, isFitting, "not a list of texts");
  }

  object(name: string): JsonObject {
    return new JsonObject(this.#fields[name], this.#pathOf(name));
  }

  objects(name: string, lengthMax: number): JsonObject[] {
    const isFitting = (value: unknown): value is unknown[] =>
      Array.isArray(value) && value.length <= lengthMax;
    const values = this.custom(name, isFitting, `not a list of at most ${lengthMax}`);
    return values.map((value, position) => new JsonObject(value, `${this.#pathOf(name)}.${position}`));
  }

  custom<T, Rest extends unknown[]>(
    name: string,
    isFitting: (value: unknown, ...rest: Rest) => value is T,
    otherwise: string,
    ...rest: Rest
  ): T {
    const value = this.#fields[name];
    if (!isFitting(value, ...rest)) throw new Error(`${this.#pathOf(name)}: ${otherwise}`);
    return value;
  }

  #pathOf(name: string): string {
    return this.#path ? `${this.#path}.${name}` : name;
  }
}

function isText(value: unknown, lengthMin: number): value is string {
  return typeof value === "string" && value.length >= lengthMin;
}
