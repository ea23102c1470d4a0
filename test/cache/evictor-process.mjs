// Evicts spans from a cache directory for ever; it is meant to be killed. Arguments: the cache directory, and a number of bytes. Prints a line with the
// number of spans for each run that has evicted some.
import { silentLogger } from "../../dist/base/logger.js";
import { Evictor } from "../../dist/cache/evictor.js";
import { loadNative } from "../../dist/native/load.js";

const [cacheDir, bytes] = [process.argv[2], Number(process.argv[3])];
const evictor = new Evictor({
  cacheDir,
  native: loadNative(),
  logger: silentLogger,
  stocks: [],
  limits: () => ({ bytesMax: bytes, freeBytesMin: 0 }),
  graceMs: 5_000,
});
for (let turn = 0; ; turn++) {
  const report = await evictor.run({ bytesMax: (turn % 4) * bytes, wait: true });
  const spans = report.spans.reduce((sum, one) => sum + one.spans, 0);
  if (spans > 0) process.stdout.write(`${spans}\n`);
}
