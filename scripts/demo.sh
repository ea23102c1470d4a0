#!/usr/bin/env bash
# Shows skim's main job on an image made on the spot, next to a full unpack of the same image. Installs what is missing first; see setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --for demo
exec node scripts/demo.mjs "$@"
