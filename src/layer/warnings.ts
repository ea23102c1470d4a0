/** A layer with millions of odd members must not fill an archive with sentences about them. */
const WARNINGS_MAX = 50;

/** Collects sentences: each once, at most WARNINGS_MAX, and how many more there were. */
export class Warnings {
  readonly #sentences = new Set<string>();
  #more = 0;

  add(sentence: string): void {
    if (this.#sentences.has(sentence)) return;
    if (this.#sentences.size < WARNINGS_MAX) this.#sentences.add(sentence);
    else this.#more++;
  }

  list(): string[] {
    return [...this.#sentences, ...(this.#more > 0 ? [`${this.#more} further warnings`] : [])];
  }
}
