/** A settings file with every setting at its default and what it means above it: scripts/host/config.json, as packages install it in /etc/skim. */
import { describeSettings } from "./settings.js";

const lineLengthMax = 110;

const opening = `Settings of skim; install this as /etc/skim/config.json. Every setting is here with its default. A variable of the environment (named behind each
setting) goes before this file, and a flag before both. A key that is no setting is an error. Lines that begin with two slashes are comments.`;

/** JSON with comment lines, as readSettingsFile takes it. */
export function exampleSettingsFile(): string {
  const settings = describeSettings().map(({ name, environment, flag, byDefault, meaning }) => {
    const elsewhere = [environment, ...(flag ? [flag] : [])].join(", ");
    const value = JSON.stringify(byDefault);
    return { comment: commentLines(`${meaning} (${elsewhere})`, "  "), entry: `  "${name}": ${value}` };
  });
  const body = settings.map(
    ({ comment, entry }, position) => `${comment}\n${entry}${position < settings.length - 1 ? "," : ""}`,
  );
  return `${commentLines(opening, "")}\n{\n${body.join("\n\n")}\n}\n`;
}

function commentLines(text: string, indent: string): string {
  const lines: string[] = [];
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= lineLengthMax)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(`${indent}// ${word}`);
  }
  return lines.join("\n");
}
