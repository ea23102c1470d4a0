#!/usr/bin/env bash
# Runs everything that must hold: types, lint, tests. Installs what is missing first.
#
#   scripts/test.sh [--long] [arguments of vitest]
#
# --long lets the fuzzers (test/fuzz) run for a minute instead of a few seconds, the soak of the daemon (test/control) for three minutes, and copies files of 2 GiB (test/copy).
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --long ]; then
  export SKIM_FUZZ_SECONDS=${SKIM_FUZZ_SECONDS:-60} SKIM_TEST_LONG=1
  export SKIM_SOAK_SECONDS=${SKIM_SOAK_SECONDS:-180}
  shift
fi
scripts/setup.sh --for test
# Beside the type check, which takes as long as nothing is to be built.
node scripts/build-sanitized.mjs &
sanitized=$!
trap 'kill "$sanitized" 2>/dev/null || true' EXIT
echo "test: types and lint"
npm run --silent check
wait "$sanitized"
echo "test: vitest"
# In a mount namespace of its own, whose mounts are shared, as systemd has them and not every machine does: else a runtime that a test lets hang while it makes a container keeps copies
# of all mounts of the other tests.
exec unshare --mount --propagation shared npx vitest run "$@"
