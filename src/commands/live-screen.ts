/**
 * A text that is drawn over itself on a terminal, until somebody presses q or Ctrl-C. It has the other screen of the terminal for itself meanwhile, so what was there before is
 * there afterwards, however it ends.
 */
import type { ReadStream, WriteStream } from "node:tty";

const enter = "\x1b[?1049h\x1b[?25l";
const leave = "\x1b[?25h\x1b[?1049l";
const home = "\x1b[H";
const clearLine = "\x1b[K";
const clearBelow = "\x1b[J";

/** In raw mode Ctrl-C is a key like others: ETX. */
const quitKeys = ["q", "Q", "\u0003"];

export class LiveScreen {
  readonly #output: WriteStream;
  readonly #input: ReadStream | undefined;
  readonly #ended = new AbortController();
  #isOpen = true;
  readonly #onKey = (keys: Buffer) => {
    const typed = keys.toString("latin1");
    if (quitKeys.some((key) => typed.includes(key))) this.#ended.abort();
  };
  readonly #onExit = () => this.close();

  /** `input`: where keys come from; without a terminal there are none. */
  constructor(output: WriteStream, input: ReadStream | undefined) {
    this.#output = output;
    this.#input = input?.isTTY ? input : undefined;
    this.#input?.setRawMode(true);
    this.#input?.on("data", this.#onKey);
    process.once("exit", this.#onExit);
    output.write(enter);
  }

  /** Fires when somebody wants to leave. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** Lines that do not fit are cut. */
  draw(text: string): void {
    // A terminal that does not know its size says 0.
    const columns = this.#output.columns || 80;
    const rows = this.#output.rows || 24;
    const lines = text.split("\n");
    const fitting =
      lines.length > rows ? [...lines.slice(0, rows - 1), `... ${lines.length - rows + 1} more`] : lines;
    const drawn = fitting.map((line) => `${line.slice(0, columns)}${clearLine}`);
    this.#output.write(`${home}${drawn.join("\r\n")}${clearBelow}`);
  }

  /** Gives the terminal back as it was. May be called twice. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    process.off("exit", this.#onExit);
    this.#output.write(leave);
    this.#input?.off("data", this.#onKey);
    this.#input?.setRawMode(false);
    this.#input?.pause();
  }
}
