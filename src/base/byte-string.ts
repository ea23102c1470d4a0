/**
 * A string with one character (U+0000 to U+00FF) for each byte: what names in tars, trees and archives are made of.
 *
 * File names are bytes, not text. A JavaScript string of single-byte characters keeps every byte, works as a Map key,
 * and compares with `<` in byte order, which is the order of dirents in an archive. V8 stores it in one byte a character.
 */
declare const byteStringBrand: unique symbol;
export type ByteString = string & { readonly [byteStringBrand]: true };

/** The bytes of `bytes` as a ByteString (copied). */
export function byteStringOf(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1") as ByteString;
}

/** The UTF-8 bytes of ordinary text. */
export function byteStringFromText(text: string): ByteString {
  return Buffer.from(text, "utf8").toString("latin1") as ByteString;
}

export function bytesOf(name: ByteString): Buffer {
  return Buffer.from(name, "latin1");
}

/** For people: bytes that are not UTF-8, and control characters, as \xNN; a backslash doubled. */
export function displayText(name: ByteString): string {
  const text = bytesOf(name).toString("utf8");
  const lossless = !text.includes("\ufffd") || byteStringFromText(text) === name;
  const shown = lossless ? text : name;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not reach a terminal
  return shown.replace(lossless ? /[\x00-\x1f\x7f\\]/g : /[\x00-\x1f\x7f-\xff\\]/g, (char) =>
    char === "\\" ? "\\\\" : `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

/** The name as text where its bytes are UTF-8, undefined where they are not. */
export function textOf(name: ByteString): string | undefined {
  const text = bytesOf(name).toString("utf8");
  return byteStringFromText(text) === name ? text : undefined;
}

/** The bytes that `displayText` shows as `shown`. */
export function parseDisplayText(shown: string): ByteString {
  return byteStringFromText(shown).replace(/\\(?:\\|x([0-9a-f]{2}))/g, (_, hex?: string) =>
    hex === undefined ? "\\" : String.fromCharCode(Number.parseInt(hex, 16)),
  ) as ByteString;
}
