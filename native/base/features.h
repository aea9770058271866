// Which optional kernel interfaces the running kernel has. Each has a fallback that is tested by switching it off.
#pragma once

#include <string_view>

namespace revocable {

struct Features {
  bool procmap_query;  // PROCMAP_QUERY on /proc/self/maps; else the text is parsed
  bool futex_waitv;    // futex_waitv(2); else waits poll the status word
  bool guard;          // MADV_GUARD_INSTALL; else the ladder of revocation has one rung less
  // Not probed, only switched off: whether it works is known when the first device with a fault op opens it (userfault.h).
  bool userfaultfd;
  bool userfaultfd_wp;  // write protection of shared memory; else devices with a pageMkwrite op are refused
  bool register_traps;  // raw accesses to registers; else only checked ones reach their model
  bool single_step;     // tried before the first step (register_step.h); else accesses that need one are refused
};

// Found by the first call, for the whole process.
const Features& features();

// Kernel interfaces that features() is to say are not there: a comma-separated list of `procmap-query`, `futex-waitv`, `guard`,
// `userfaultfd`, `userfaultfd-wp`, `register-traps`, `single-step`. Replaces what an earlier call said; without effect once
// features() has been called. Users name them in REVOCABLE_MMAP_WITHOUT, which the caller reads: getenv(3) in a thread of its
// own would meet a setenv(3) of another.
void switch_off_features(std::string_view names);

}  // namespace revocable
