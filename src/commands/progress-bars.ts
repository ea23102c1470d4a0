/**
 * Draws progress: bars on a terminal, one plain line at the start and end of each task elsewhere. Only for what takes longer than a
 * moment: a task that is over within `quietMs` on a terminal is never drawn.
 */
import cliProgress from "cli-progress";
import { noProgress, type Progress, type ProgressTask } from "../base/progress.js";
import { formatBytes } from "./format.js";

const quietMs = 200;

export function createProgress(options: { stream: NodeJS.WriteStream; quiet: boolean }): Progress {
  if (options.quiet) return noProgress;
  return options.stream.isTTY ? new TerminalProgress(options.stream) : new LineProgress(options.stream);
}

class LineProgress implements Progress {
  readonly #stream: NodeJS.WriteStream;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  start(label: string, total: number | undefined): ProgressTask {
    const started = performance.now();
    let bytes = 0;
    return {
      advance: (more) => {
        bytes += more;
      },
      done: (outcome) => {
        const seconds = ((performance.now() - started) / 1000).toFixed(1);
        this.#stream.write(`${label}: ${outcome ?? `${formatBytes(total ?? bytes)} in ${seconds} s`}\n`);
      },
    };
  }
}

class TerminalProgress implements Progress {
  readonly #stream: NodeJS.WriteStream;
  #bars: cliProgress.MultiBar | undefined;
  #open = 0;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  start(label: string, total: number | undefined): ProgressTask {
    let bytes = 0;
    let bar: cliProgress.SingleBar | undefined;
    this.#open++;
    const draw = () => {
      this.#bars ??= new cliProgress.MultiBar(
        {
          stream: this.#stream,
          format: "{label} [{bar}] {percentage}% {shown}",
          hideCursor: true,
          clearOnComplete: false,
          linewrap: false,
          barsize: 28,
        },
        cliProgress.Presets.rect,
      );
      bar = this.#bars.create(Math.max(total ?? 1, 1), bytes, { label, shown: "" });
    };
    const timer = setTimeout(draw, quietMs);
    const shown = () => `${formatBytes(bytes)}${total === undefined ? "" : ` of ${formatBytes(total)}`}`;
    return {
      advance: (more) => {
        bytes += more;
        bar?.update(Math.min(bytes, total ?? bytes), { label, shown: shown() });
      },
      done: (outcome) => {
        clearTimeout(timer);
        bar?.update(Math.max(total ?? 1, 1), { label, shown: outcome ?? shown() });
        bar?.stop();
        if (--this.#open === 0) {
          this.#bars?.stop();
          this.#bars = undefined;
        }
      },
    };
  }
}
