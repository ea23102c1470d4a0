/** What somebody meant who wrote the name of a setting that there is not, in the settings file or in the environment. */
import { closest, distance } from "fastest-levenshtein";
import { SkimError } from "./errors.js";
import { type SettingName, settingNames, settingsTable } from "./settings-table.js";

/** Edits between a mistyped name and the one that is suggested; more is another word. */
const editsMax = 4;

/** Holds the path of a settings file. */
export const settingsFileVariable = "SKIM_CONFIG";

/** Variables of skim's that are no settings: SKIM_DEBUG prints stacks, SKIM_WRITE_CODE_CACHE is the build's (scripts/boot.cjs). */
const otherVariables: readonly string[] = [settingsFileVariable, "SKIM_DEBUG", "SKIM_WRITE_CODE_CACHE"];

/** Undefined where `name` resembles none. */
export function nearestSetting(name: string): SettingName | undefined {
  // Words of the environment and of the command line are near misses too: cache_dir, cache-dir, CACHEDIR.
  const plain = name
    .replace(/^(SKIM_|--)/i, "")
    .replace(/[-_]/g, "")
    .toLowerCase();
  if (plain === "") return undefined;
  const byPlain = new Map(settingNames.map((each) => [each.toLowerCase(), each]));
  const nearest = closest(plain, [...byPlain.keys()]);
  const isNear = distance(plain, nearest) <= Math.min(editsMax, Math.ceil(plain.length / 2));
  return isNear ? byPlain.get(nearest) : undefined;
}

/** What to tell somebody who wrote `key` in a settings file. */
export function unknownKey(key: string): string {
  const nearest = nearestSetting(key);
  const advice = nearest
    ? `did you mean ${JSON.stringify(nearest)}?`
    : `the settings are ${settingNames.join(", ")}`;
  return `there is no setting ${JSON.stringify(key)}; ${advice}`;
}

/**
 * Throws USAGE for a variable that is meant for a setting and is none, as SKIM_CACHEDIR. One that resembles nothing is somebody else's: the
 * environment is shared, and an orchestrator with a service of our name writes SKIM_SERVICE_HOST and SKIM_PORT into it.
 */
export function refuseMistypedVariables(environment: NodeJS.ProcessEnv): void {
  for (const variable of Object.keys(environment)) {
    if (!variable.startsWith("SKIM_") || otherVariables.includes(variable) || isSetting(variable)) continue;
    const isConfig = distance(variable, settingsFileVariable) <= 2;
    const nearest = nearestSetting(variable);
    const meant = isConfig ? settingsFileVariable : nearest && settingsTable[nearest].environment;
    if (meant)
      throw new SkimError("USAGE", `environment: there is no setting ${variable}; did you mean ${meant}?`);
  }
}

function isSetting(variable: string): boolean {
  return settingNames.some((name) => settingsTable[name].environment === variable);
}
