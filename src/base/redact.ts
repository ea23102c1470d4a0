/**
 * Cuts secrets out of text before it reaches a log, an error or a screen: bearer and basic tokens, user info in URLs, and the query
 * strings of signed URLs (S3, GCS, Azure and CloudFront put credentials there).
 */
export function redact(text: string): string {
  return (
    text
      .replace(/\b(Bearer|Basic)\s+[A-Za-z0-9+/=._~-]{6,}/gi, "$1 [redacted]")
      .replace(/(\bhttps?:\/\/)[^/\s@"']+@/gi, "$1[redacted]@")
      .replace(/(\bhttps?:\/\/[^\s?"'<>]+)\?[^\s"'<>]+/gi, "$1?[redacted]")
      // The same parameters without their URL, as storage quotes them.
      .replace(
        /\b(X-(?:Amz|Goog)-[A-Za-z-]+|Signature|sig|AWSAccessKeyId|GoogleAccessId|Key-Pair-Id)=[^\s"'&<>,]+/gi,
        "$1=[redacted]",
      )
      .replace(
        /("?(?:password|secret|token|access_token|refresh_token|identitytoken|registrytoken|auth)"?\s*[:=]\s*"?)[^\s",}&]+/gi,
        "$1[redacted]",
      )
  );
}
