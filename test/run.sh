#!/usr/bin/env bash
# The whole suite: the native core without Node, then the package with jest. The last line is `N passed, N failed`, from the
# runners' own counts; the exit status is 0 only when nothing failed and something passed. `--js-only` leaves out the native core;
# what follows is jest's. Storms have a quarter of the rounds that a
# single file has, unless TEST_ROUNDS says otherwise.
set -uo pipefail
cd "$(dirname "$0")/.."
export TEST_ROUNDS=${TEST_ROUNDS:-25}
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
passed=0
failed=0

# add_counts "12 passed, 0 failed": a runner that printed no such line counts as one failure.
add_counts() {
  if [[ $2 =~ ([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
  else
    echo "$1 did not report its counts"
    failed=$((failed + 1))
  fi
}

if [[ ${1:-} == --js-only ]]; then
  shift
else
  # Two runs: with everything the kernel has, and with every optional kernel interface switched off.
  bash test/native/run.sh plain | tee "$results/native"
  while read -r line; do
    add_counts 'the native suite' "$line"
  done < <(grep -E '^[0-9]+ passed, [0-9]+ failed' "$results/native" || echo none)
fi

echo "== package on Node $(node --version)"
node node_modules/jest/bin/jest.js --json --outputFile="$results/jest.json" "$@"
add_counts jest "$(node -e '
  const r = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8"));
  const broken = r.testResults.filter((f) => f.status === "failed" && f.assertionResults.every((a) => a.status !== "failed")).length;
  console.log(`${r.numPassedTests} passed, ${r.numFailedTests + broken} failed`);
  for (const file of r.testResults) for (const a of file.assertionResults)
    if (a.status === "pending") console.error(`skipped: ${a.fullName}`);
' "$results/jest.json")"

echo "$passed passed, $failed failed"
[[ $failed -eq 0 && $passed -gt 0 ]]
