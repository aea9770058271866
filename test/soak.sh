#!/usr/bin/env bash
# The longest storms, with more rounds than CI has time for: `npm run soak`. TEST_ROUNDS is the percent of the rounds that a single
# file has, 500 unless set, twenty times those of `npm test`; limits of time grow with it. The last line is `N passed, N failed`, from the
# runners' own counts.
set -uo pipefail
cd "$(dirname "$0")/.."
export TEST_ROUNDS=${TEST_ROUNDS:-500}
mapfile -t storms < <(grep -rlE 'support/(rounds|examples)[.]js' test --include='*.test.ts')
TEST_SECONDS=3600 bash test/run.sh --testTimeout="$((240000 * (TEST_ROUNDS > 100 ? TEST_ROUNDS : 100) / 100))" "${storms[@]}"
