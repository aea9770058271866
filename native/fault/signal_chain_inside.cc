// This file runs inside signal handlers: the rules at the top of handler_inside.cc apply.
#include "fault/signal_chain.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "base/linux_abi.h"
#include "instruction/machine_context.h"

namespace revocable {
namespace {

constexpr uint32_t kActions = 16;

struct ActionTable {
  struct sigaction actions[kActions];
  std::atomic<bool> spent[kActions];  // SA_RESETHAND: it has been called, and is SIG_DFL since
  std::atomic<uint32_t> count{0};     // publishes actions[0..count)
  std::atomic<uint32_t> current{0};   // the one to call
};
ActionTable g_bus, g_segv, g_trap;

ActionTable& table_of(int signal) { return signal == SIGBUS ? g_bus : signal == SIGTRAP ? g_trap : g_segv; }

bool same_action(const struct sigaction& a, const struct sigaction& b) {
  return a.sa_flags == b.sa_flags && a.sa_handler == b.sa_handler && memcmp(&a.sa_mask, &b.sa_mask, sizeof a.sa_mask) == 0;
}

void restore_default(int signal) {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
}

void take_default_action(int signal, siginfo_t* info, bool ignored) {
  // A fault: with the default action in place the instruction faults again, and the core dump shows the true cause. The kernel
  // does the same for an ignored signal, as a fault cannot be ignored.
  const bool sent = info->si_code <= 0 || (signal == SIGBUS && info->si_code == BUS_MCEERR_AO);
  // A trap comes behind its instruction, which does not come again either.
  if (!sent && signal != SIGTRAP) {
    restore_default(signal);
    return;
  }
  if (ignored && sent) return;
  restore_default(signal);
  // Queued to this thread and delivered when the handler returns, since SA_NODEFER does not hold for a blocked mask.
  syscall(SYS_rt_tgsigqueueinfo, getpid(), abi::tid(), signal, info);
}

void call_handler(const struct sigaction& action, int signal, siginfo_t* info, void* context) {
  // The mask the kernel would have set for this handler: that of the interrupted code, and what the action asks for.
  sigset_t mask = MachineContext(context).mask(), ours;
  sigorset(&mask, &mask, &action.sa_mask);
  if ((action.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, signal);
  pthread_sigmask(SIG_SETMASK, &mask, &ours);
  if ((action.sa_flags & SA_SIGINFO) != 0) action.sa_sigaction(signal, info, context);
  else action.sa_handler(signal);
  pthread_sigmask(SIG_SETMASK, &ours, nullptr);
}

void invoke(ActionTable& table, uint32_t index, int signal, siginfo_t* info, void* context) {
  const struct sigaction& action = table.actions[index];
  const bool plain = (action.sa_flags & SA_SIGINFO) == 0;
  const bool ignored = plain && action.sa_handler == SIG_IGN;
  const bool reset = (action.sa_flags & SA_RESETHAND) != 0 && table.spent[index].exchange(true, std::memory_order_relaxed);
  if (ignored || reset || (plain && action.sa_handler == SIG_DFL)) take_default_action(signal, info, ignored);
  else call_handler(action, signal, info, context);
}

}  // namespace

bool chain_adopt(int signal, const struct sigaction& action) {
  ActionTable& table = table_of(signal);
  const uint32_t count = table.count.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; ++i) {
    if (!same_action(table.actions[i], action)) continue;
    table.spent[i].store(false, std::memory_order_relaxed);
    table.current.store(i, std::memory_order_release);
    return true;
  }
  if (count == kActions) return false;
  table.actions[count] = action;
  table.count.store(count + 1, std::memory_order_release);
  table.current.store(count, std::memory_order_release);  // publishes the entry to chain_signal
  return true;
}

void chain_signal(int signal, siginfo_t* info, void* context, bool fresh) {
  ActionTable& table = table_of(signal);
  const uint32_t current = table.current.load(std::memory_order_acquire);
  invoke(table, fresh ? current : 0, signal, info, context);
}

}  // namespace revocable
