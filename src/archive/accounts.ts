/** The section accounts (FORMAT.md): what says who a container runs as. With it a start can be prepared before a byte of the image is there. */
import { describeError } from "../base/errors.js";
import { JsonObject } from "../base/json-object.js";
import type { Refuse } from "./refusal.js";

/** The text of /etc/passwd and /etc/group as a container of the image sees them; undefined where there is no such file. */
export interface ImageAccounts {
  readonly passwd?: string | undefined;
  readonly group?: string | undefined;
}

/** Few images have more than 2 KiB. Where an image has more than this, its archive has no such section. */
export const accountsBytesMax = 64 * 1024;

/** The bytes of the section: JSON without white space. */
export function encodeAccounts({ passwd, group }: ImageAccounts): Buffer {
  return Buffer.from(JSON.stringify({ passwd, group }));
}

/** What `encodeAccounts` made; no other encoding is taken. Throws ARCHIVE_DAMAGED. */
export function decodeAccounts(bytes: Buffer, refuse: Refuse): ImageAccounts {
  if (bytes.length > accountsBytesMax)
    throw refuse("accounts", undefined, `${bytes.length} bytes are more than ${accountsBytesMax}`);
  let decoded: ImageAccounts;
  try {
    const fields = new JsonObject(JSON.parse(bytes.toString("utf8")));
    fields.only("passwd", "group");
    decoded = {
      ...(fields.has("passwd") ? { passwd: fields.text("passwd") } : {}),
      ...(fields.has("group") ? { group: fields.text("group") } : {}),
    };
  } catch (cause) {
    throw refuse("accounts", undefined, describeError(cause));
  }
  if (!encodeAccounts(decoded).equals(bytes))
    throw refuse("accounts", undefined, "not in the one form that its JSON may have");
  return decoded;
}
