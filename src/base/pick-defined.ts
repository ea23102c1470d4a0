/** Drops keys that are undefined, as exactOptionalPropertyTypes wants it. */
export function pickDefined<T extends object>(object: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as never;
}
