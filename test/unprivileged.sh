#!/usr/bin/env bash
# The tests of simulated devices as a user without privileges: page faults come through userfaultfd(2), which the kernel may keep from
# such users unless it is asked for with UFFD_USER_MODE_ONLY. In a copy of the tree that the user may read.
set -uo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r package.json tsconfig.json include src test dist examples build "$copy/"
rm -rf "$copy/test/matrix/node_modules" "$copy/build/test-native"
cp -rL node_modules "$copy/node_modules"
chmod -R a+rX "$copy"
without_rights=()
if [[ $(id -u) -eq 0 ]]; then
  chown -R 65534:65534 "$copy"
  without_rights=(setpriv --reuid=65534 --regid=65534 --clear-groups env "HOME=$copy")
fi
cd "$copy" || exit 1
status=0
# What needs no privileges is left out: accesses to registers are trapped by a signal (registers.test.ts shows that it comes here too),
# interrupts are eventfds, and the order of many accesses and ops, their arguments and their answers are the same for each user.
unaffected='device/(histories|edu|nic|framebuffer|interrupts|trace|registers-|register-|removal-|op-answers|arguments|listeners)'
export TEST_ROUNDS=${TEST_ROUNDS:-25}
"${without_rights[@]}" node node_modules/jest/bin/jest.js --cacheDirectory="$copy/cache" --json --outputFile=jest.json \
  --testPathIgnorePatterns /node_modules/ "$unaffected" --testPathPatterns test/device || status=$?
node -e '
  const r = JSON.parse(require("node:fs").readFileSync("jest.json", "utf8"));
  const broken = r.testResults.filter((f) => f.status === "failed" && f.assertionResults.every((a) => a.status !== "failed")).length;
  console.log(`${r.numPassedTests} passed, ${r.numFailedTests + broken} failed`);' || echo '0 passed, 1 failed'
exit "$status"
