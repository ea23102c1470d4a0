#!/usr/bin/env bash
# Runs everything that must hold: types, lint, tests. Installs what is missing first.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --for test
echo "test: types and lint"
npm run --silent check
echo "test: vitest"
exec npx vitest run "$@"
