/**
 * Reads WWW-Authenticate headers (RFC 9110 11.6.1): a list of challenges, each a scheme with a token68 or a list of parameters.
 *
 * Both lists are separated by commas, so a comma does not tell whether a parameter or a challenge follows: a name
 * with `=` behind it is a parameter, one without is the next scheme. Quoted strings may hold commas and escapes. What cannot be read is
 * skipped to the next comma: one odd challenge must not hide a good one.
 */
export interface Challenge {
  /** In lower case: `bearer`, `basic`, ... */
  readonly scheme: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const tokenPattern = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const parameterPattern = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))/sy;
const token68Pattern = /[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y;
/** More challenges than any server sends; a header is at most 16 KiB. */
const challengesMax = 32;

/** `line`: the header, several of them joined with commas. */
export function parseChallenges(line = ""): Challenge[] {
  const challenges: Array<{ scheme: string; parameters: Map<string, string> }> = [];
  let at = 0;
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(line);
    if (found) at = pattern.lastIndex;
    return found;
  };
  while (at < line.length && challenges.length < challengesMax) {
    match(/[\s,]+/y);
    const parameter = match(parameterPattern);
    if (parameter) {
      const value = parameter[2]?.replace(/\\(.)/gs, "$1") ?? parameter[3] ?? "";
      const parameters = challenges.at(-1)?.parameters;
      const name = parameter[1]!.toLowerCase();
      if (parameters && !parameters.has(name)) parameters.set(name, value);
      continue;
    }
    const scheme = match(tokenPattern);
    if (scheme) {
      challenges.push({ scheme: scheme[0].toLowerCase(), parameters: new Map() });
      // A token68 (as in `Negotiate oYG2...==`) says nothing to us, but it must not be taken for a scheme.
      if (match(/[ \t]+/y)) match(token68Pattern);
      continue;
    }
    match(/[^,]*/y);
    at++;
  }
  return challenges;
}
