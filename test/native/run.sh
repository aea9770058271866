#!/bin/sh
# Builds and runs the tests of the native code without Node: all but its bindings.
#
#   test/native/run.sh [plain|asan|tsan|all] [part of a test's sentence or file name]
#
# plain runs twice: with everything the kernel has, and with every optional kernel interface switched off.
# Builds go to build/test-native/<lane>/ and are incremental; they know lines and no variables (-g1), which takes a quarter less
# time. Taken from the environment: CXX, JOBS (processors to use), TEST_SEED, TEST_SECONDS (a test's limit) and TEST_ROUNDS (percent
# of a storm's rounds).
set -eu
cd "$(dirname "$0")/../.."

lane_flags() {
  case "$1" in
    plain) echo "-O2" ;;
    asan) echo "-O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined" ;;
    tsan) echo "-O1 -fno-omit-frame-pointer -fsanitize=thread -Wno-tsan" ;;
    *) echo "unknown lane: $1 (plain, asan, tsan, all)" >&2; exit 2 ;;
  esac
}

build() {
  units=$(node scripts/units.mjs build/test-native/units native/base/*.cc native/instruction/*.cc native/core/*.cc native/fault/*.cc \
    native/device/*.cc native/share/*.cc)
  LANE=$1 UNITS=$units FLAGS=$(lane_flags "$1") make --no-print-directory -s -j"${JOBS:-2}" -f - <<'MAKE'
CXX ?= g++
DIR := build/test-native/$(LANE)
SOURCES := $(UNITS) $(wildcard test/native/*.cc)
OBJECTS := $(SOURCES:%.cc=$(DIR)/%.o)
CXXFLAGS := -std=c++20 -g1 -Wall -Wextra -Werror -fno-exceptions -fno-rtti -I . -I native -I include -I test/native $(FLAGS)

$(DIR)/native_test: $(OBJECTS)
	$(CXX) $(FLAGS) -o $@ $^ -lpthread -ldl
$(DIR)/%.o: %.cc
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) -MMD -MP -c -o $@ $<
-include $(OBJECTS:.o=.d)
MAKE
}

failed=0
# run <lane> <title> [NAME=value ...]: the last line is the lane's result. Most tests have one thread, so as many runners as
# there are jobs share them out; what each prints is shown when all have ended.
run() {
  lane=$1; title=$2; shift 2
  echo "== $title"
  # Sanitizers reserve fixed ranges of addresses, which a kernel's stronger randomisation may already have taken.
  case "$lane" in plain) prefix= ;; *) prefix="setarch -R" ;; esac
  jobs=${JOBS:-2}
  logs=$(mktemp -d)
  runners=
  for shard in $(seq "$jobs"); do
    env "$@" TEST_SHARD="$shard/$jobs" $prefix "build/test-native/$lane/native_test" "$filter" >"$logs/$shard" 2>&1 &
    runners="$runners $!"
  done
  for runner in $runners; do wait "$runner" || failed=1; done
  for shard in $(seq "$jobs"); do sed '$d' "$logs/$shard"; done
  # A runner that died has no line of counts, and is one failure.
  tail -q -n 1 "$logs"/* | awk '
    /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { passed += $1; failed += $3; skipped += $5; next }
    { print "a runner ended with: " $0; failed++ }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }'
  rm -r "$logs"
}

run_lane() {
  build "$1"
  case "$1" in
    plain)
      run plain "plain"
      run plain "plain, without procmap-query, futex-waitv, guard and userfaultfd-wp" TEST_ROUNDS="${TEST_ROUNDS:-30}" \
        REVOCABLE_MMAP_WITHOUT=procmap-query,futex-waitv,guard,userfaultfd-wp ;;
    # The library's own handler must see the signals; its records are recycled and never freed, so leaks mean nothing.
    asan)
      run asan "asan and ubsan" \
        ASAN_OPTIONS=handle_segv=0:handle_sigbus=0:allow_user_segv_handler=1:use_sigaltstack=0:detect_leaks=0:abort_on_error=1 \
        UBSAN_OPTIONS=print_stacktrace=1:handle_segv=0:handle_sigbus=0 ;;
    # Each test is a process of its own, and at its end nothing runs any more: no second to wait for what threads may still do.
    tsan)
      run tsan "tsan" \
        TSAN_OPTIONS=handle_segv=0:handle_sigbus=0:allow_user_segv_handler=1:use_sigaltstack=0:die_after_fork=0:halt_on_error=1:report_signal_unsafe=0:atexit_sleep_ms=0:suppressions=test/native/tsan.supp ;;
  esac
}

filter=${2:-}
case "${1:-plain}" in
  all) for lane in plain asan tsan; do run_lane "$lane"; done ;;
  *) run_lane "${1:-plain}" ;;
esac
exit "$failed"
