import { redact } from "../base/redact.js";

/** Longest text of a server that an error repeats, in characters: one line of a log. */
const serverTextMax = 300;
/** The shortest signature or key id of a storage has 16 characters. */
const secretCharactersMin = 12;
/** Errors of one body that are repeated; registries send one. */
const repeatedErrorsMax = 3;

/**
 * What a registry or token server says about a refusal, as part of one printable line: the codes and messages of an OCI error
 * body (distribution spec, "Error Codes"), the fields that token servers use, or the text itself. Empty where there is nothing to
 * repeat. Secrets are cut out, also `sentAuthorization` and what stands in the query of `signedUrl`, where the server echoes them.
 */
export function serverText(body: string, sentAuthorization?: string, signedUrl?: URL): string {
  let text = fieldsOf(body) ?? (/^\s*</.test(body) ? "" : body);
  for (const secret of [...secretsOf(sentAuthorization), ...queryValuesOf(signedUrl)])
    text = text.replaceAll(secret, "[redacted]");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not reach a terminal
  text = redact(text.replace(/[\x00-\x1f\x7f-\x9f\s]+/g, " ").trim());
  return text.length > serverTextMax ? `${text.slice(0, serverTextMax)}...` : text;
}

/** `serverText` in the form that follows a sentence. */
export function quoteServer(body: string, sentAuthorization?: string, signedUrl?: URL): string {
  const text = serverText(body, sentAuthorization, signedUrl);
  return text ? `: ${text}` : "";
}

function fieldsOf(body: string): string | undefined {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    return undefined;
  }
  if (typeof json !== "object" || json === null) return undefined;
  const { errors, error, error_description, message, details } = json as Record<string, unknown>;
  if (Array.isArray(errors)) {
    const texts = errors.slice(0, repeatedErrorsMax).map((entry: unknown) => {
      const { code, message: text } = (typeof entry === "object" && entry !== null ? entry : {}) as {
        code?: unknown;
        message?: unknown;
      };
      return joined([code, text]);
    });
    return texts.filter(Boolean).join("; ");
  }
  return joined([error, error_description, message, details]);
}

function joined(parts: readonly unknown[]): string {
  return parts.filter((part) => typeof part === "string" && part !== "").join(": ");
}

/** The credentials in an Authorization header, in each form that a server could repeat. */
function secretsOf(authorization: string | undefined): string[] {
  if (!authorization) return [];
  const value = authorization.slice(authorization.indexOf(" ") + 1);
  const secrets = [value];
  if (/^basic /i.test(authorization)) {
    const pair = Buffer.from(value, "base64").toString("utf8");
    secrets.push(pair, pair.slice(pair.indexOf(":") + 1));
  }
  return secrets.filter((secret) => secret.length > 0);
}

/** Of a signed URL, in both forms that a server could repeat. Short ones are dates, versions and flags. */
function queryValuesOf(url: URL | undefined): string[] {
  const values = [...(url?.searchParams.values() ?? [])].filter(
    (value) => value.length >= secretCharactersMin,
  );
  return values.flatMap((value) => [value, encodeURIComponent(value)]);
}
