// Writes what is made from tables in the code: the example settings, the page of metrics, and the dashboard. Run `npm run build:ts` first; tests compare
// the files with the code.
import { writeFileSync } from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "../..");
const load = (module) => import(path.join(root, "dist", module));
const { exampleSettingsFile } = await load("base/example-settings.js");
const { metricsMarkdown } = await load("control/metrics-page.js");
const { grafanaDashboard } = await load("control/grafana-dashboard.js");

writeFileSync(path.join(root, "scripts/host/config.json"), exampleSettingsFile());
writeFileSync(path.join(root, "METRICS.md"), metricsMarkdown());
writeFileSync(
  path.join(root, "scripts/host/grafana-dashboard.json"),
  `${JSON.stringify(grafanaDashboard(), null, 2)}\n`,
);
