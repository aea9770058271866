#include "fault/handler_install.h"

#include <dlfcn.h>
#include <signal.h>

#include <cstring>
#include <mutex>

#include "base/counters.h"
#include "core/event_ring.h"
#include "core/service.h"
#include "fault/handler.h"
#include "fault/signal_chain.h"

namespace revocable {
namespace {

std::mutex g_lock;
bool g_installed = false;

// SA_NODEFER: a nested fault (a previous handler that touches a revoked page) must not find its signal blocked, which
//   would kill. For the same reason the mask below leaves the signals of faults open.
// SA_ONSTACK: without effect on Node's own threads, which have no alternate stack and need none: V8 stops JavaScript at least
//   40 KiB before a stack ends, and a frame with AVX-512 state takes 3.5 KiB. A thread that has one gets it used
//   (docs/decisions/002-fault-handler.md).
using Handler = void (*)(int, siginfo_t*, void*);
Handler our_handler(int signal) { return signal == SIGTRAP ? g_step_handler.load()->handler : revocable_mmap_fault_handler; }

struct sigaction our_action(int signal) {
  struct sigaction action {};
  action.sa_sigaction = our_handler(signal);
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_RESTART;
  sigfillset(&action.sa_mask);
  for (const int signal : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) sigdelset(&action.sa_mask, signal);
  return action;
}

bool is_ours(int signal, const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == our_handler(signal);
}

// Another copy of the library in this process, which chains to us: fighting it for the first place would never end.
bool is_sibling(const struct sigaction& action) {
  Dl_info info;
  return (action.sa_flags & SA_SIGINFO) != 0 && dladdr(reinterpret_cast<void*>(action.sa_sigaction), &info) != 0 &&
         info.dli_sname != nullptr &&
         (strcmp(info.dli_sname, "revocable_mmap_fault_handler") == 0 ||
          strcmp(info.dli_sname, "revocable_mmap_trap_handler") == 0);
}

Failure install(int signal) {
  const struct sigaction ours = our_action(signal);
  struct sigaction previous, now;
  if (sigaction(signal, nullptr, &previous) != 0) return Failure::from_errno("sigaction");
  // Adopted before it is replaced, so that no signal finds an empty chain.
  if (!is_ours(signal, previous)) chain_adopt(signal, previous);
  if (sigaction(signal, &ours, nullptr) != 0) return Failure::from_errno("sigaction");
  // A sanitizer or an interposer may have swallowed it.
  if (sigaction(signal, nullptr, &now) != 0) return Failure::from_errno("sigaction");
  return is_ours(signal, now) ? Failure{} : Failure{ENOTSUP, "sigaction"};
}

bool displaced(int signal) {
  struct sigaction now;
  return sigaction(signal, nullptr, &now) == 0 && !is_ours(signal, now) && !is_sibling(now);
}

Failure repair() {
  Failure failure;
  bool repaired = false;
  const StepHandler* steps = g_step_handler.load();
  for (const int signal : {SIGBUS, SIGSEGV, SIGTRAP}) {
    if ((signal == SIGTRAP && (steps == nullptr || !steps->in_place())) || !displaced(signal)) continue;
    if (const Failure failed = install(signal)) {
      failure = failed;
      continue;
    }
    repaired = true;
    bump(g_counters.displacements);  // only now: a caller that sees the count relies on the handler
  }
  if (repaired) {
    Event event;
    event.kind = EventKind::displaced;
    push_event(event);
    service_announce();
  }
  return failure;
}

}  // namespace

namespace {

Failure install_for_faults() {
  if (g_installed) return repair();
  if (!handler_reserve()) return Failure::from_errno("mmap");
  Failure failure = install(SIGBUS);
  if (!failure) failure = install(SIGSEGV);
  g_installed = !failure;
  if (!failure) service_set_watchdog(handlers_check);
  return failure;
}

}  // namespace

Failure handlers_ensure() {
  std::lock_guard guard(g_lock);
  return install_for_faults();
}

void handlers_check() {
  std::lock_guard guard(g_lock);
  if (!g_installed) return;
  repair();
  const StepHandler* steps = g_step_handler.load();
  if (steps != nullptr && steps->wanted()) steps->installed(!install(SIGTRAP));
}

}  // namespace revocable
