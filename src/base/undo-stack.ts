/**
 * What has been done and must be undone, in reverse order: whoever opens closes. Node 20 has no AsyncDisposableStack.
 *
 *     const undo = new UndoStack();
 *     return undo.guard(async () => {
 *       const file = await open(...);
 *       undo.defer(() => file.close());
 *       ...                       // a throw here closes the file
 *       return { file, close: () => undo.unwind() };
 *     });
 */
export class UndoStack {
  readonly #steps: Array<() => unknown> = [];

  defer(step: () => unknown): void {
    this.#steps.push(step);
  }

  /** Runs every step, the last one first, also when one fails; then throws the first failure. Steps run once. */
  async unwind(): Promise<void> {
    let failure: { error: unknown } | undefined;
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        failure ??= { error };
      }
    }
    if (failure) throw failure.error;
  }

  /** Runs `work`; when it throws, unwinds and throws the same error (a failure of the undoing must not hide its cause). */
  async guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      await this.unwind().catch(() => {});
      throw error;
    }
  }
}
