#!/usr/bin/env bash
# A short jest run with the addon built by ASan and UBSan, in a copy of the tree so that the ordinary build stays.
#
# Node itself is not instrumented: the runtimes are preloaded, and leave SIGSEGV and SIGBUS to the library. Leaks are not looked
# for, since V8 frees little at exit. TSan cannot be preloaded into a program that was not built with it (it must map its shadow
# memory before anything else runs, and would know nothing of Node's own locks): the native suite runs under it instead.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r binding.gyp package.json tsconfig.json docs include native src test dist "$copy/"
mkdir "$copy/scripts" && cp scripts/*.mjs "$copy/scripts/"
rm -rf "$copy/test/matrix/node_modules"
ln -s "$root/node_modules" "$copy/node_modules"
cd "$copy" || exit 1
REVOCABLE_SANITIZE=address,undefined npm run --silent build:native >build.log 2>&1 || { tail -n 40 build.log; echo '0 passed, 1 failed'; exit 1; }
export ASAN_OPTIONS=detect_leaks=0:handle_segv=0:handle_sigbus=0:allow_user_segv_handler=1:use_sigaltstack=0:detect_stack_use_after_return=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
status=0
# Left out: the two tests of mlock(2), which the runtime makes do nothing, and one of RLIMIT_AS, under which it does not fit.
node node_modules/jest/bin/jest.js --json --outputFile=jest.json \
  --testNamePattern '^(?!.*(lock keeps pages|lock beyond RLIMIT_MEMLOCK|has no mapping to put))' test/memory test/rules/r3 test/rules/r4 test/rules/r5 test/rules/r8 \
  test/rules/a3 test/rules/a4 test/rules/a8 test/rules/l1 test/device/blocked || status=$?
unset LD_PRELOAD
node -e '
  const r = JSON.parse(require("node:fs").readFileSync("jest.json", "utf8"));
  const broken = r.testResults.filter((f) => f.status === "failed" && f.assertionResults.every((a) => a.status !== "failed")).length;
  console.log(`${r.numPassedTests} passed, ${r.numFailedTests + broken} failed`);' || echo '0 passed, 1 failed'
exit "$status"
