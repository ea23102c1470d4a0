/** What a registry or its token service can be told about who is asking, and how it is found out. */
export type Credentials =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  /** A refresh token for the token server (`docker login` of Azure and others). */
  | { readonly kind: "identityToken"; readonly token: string }
  /** A bearer token for the registry itself. */
  | { readonly kind: "registryToken"; readonly token: string };

/** What was found, and where, for messages: a file or a helper, never a secret. */
export interface FoundCredentials {
  readonly credentials: Credentials;
  readonly origin: string;
}

/**
 * Looks up credentials for a repository, undefined where there are none. `registry` is the host of a reference. Throws AUTH_FAILED where a
 * file or helper cannot be used.
 */
export type CredentialLookup = (
  registry: string,
  repository: string,
  signal?: AbortSignal,
) => Promise<FoundCredentials | undefined>;
