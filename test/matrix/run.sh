#!/usr/bin/env bash
# The package's suite on each Node version, all with the one native build there is. Arguments choose among them: `run.sh 20 26`;
# what follows `--` is jest's.
# The Node binaries are npm packages, installed here on first use.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
versions=()
while [[ $# -gt 0 && $1 != -- ]]; do
  versions+=("$1")
  shift
done
[[ $# -eq 0 ]] || shift
[[ ${#versions[@]} -gt 0 ]] || versions=(20 22 24 26)
[[ -d $here/node_modules ]] || (cd "$here" && npm ci --no-audit --no-fund) || exit 1
passed=0
failed=0
for version in "${versions[@]}"; do
  output=$(PATH="$here/node_modules/node$version/bin:$PATH" bash test/run.sh --js-only "$@" 2>&1)
  line=$(tail -n 1 <<<"$output")
  if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
    [[ ${BASH_REMATCH[2]} -eq 0 ]] || echo "$output"
  else
    failed=$((failed + 1))
    echo "$output"
  fi
  echo "Node $version: $line"
done
echo "$passed passed, $failed failed"
[[ $failed -eq 0 && $passed -gt 0 ]]
