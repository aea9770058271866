#!/usr/bin/env bash
# One program on this Node and on each other runtime: every line must be the same. The runtimes are npm packages, installed here on
# first use.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
[[ -d $here/node_modules ]] || (cd "$here" && npm ci --no-audit --no-fund) || exit 1
passed=0
failed=0

# Runs the program: its lines, then how it ended.
lines_of() {
  timeout --signal=KILL 120 "$@" "$here/program.cjs" "$root" 2>&1
  echo "exit status $?"
}

compare() {
  local name=$1
  shift
  local lines
  lines=$(lines_of "$@")
  local differ
  if differ=$(diff "$here/expected.txt" <(echo "$lines")); then
    passed=$((passed + 1))
    echo "ok    $name"
  else
    failed=$((failed + 1))
    echo "FAIL  $name"
    echo "$differ"
  fi
}

compare 'Node' node
compare 'Deno' "$here/node_modules/deno/deno" run --allow-all --no-lock
compare 'Bun' "$here/node_modules/bun/bin/bun" run

echo "$passed passed, $failed failed"
[[ $failed -eq 0 && $passed -eq 3 ]]
