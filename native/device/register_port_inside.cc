// Runs in the fault handler, and in that for SIGTRAP: see the rules at the top of handler_inside.cc.
#include "device/register_port.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/linux_abi.h"
#include "base/spin.h"
#include "device/access_trace.h"
#include "device/register_file.h"
#include "device/register_slots.h"

namespace revocable {

std::array<AskedAccess, kAskedAccesses> g_asked_accesses;
std::atomic<bool> g_register_waits_spin{false};

namespace {

void trace(RegisterPort* port, uint64_t offset, unsigned width, uint64_t value, bool write, bool raw) {
  TraceSet* traces = port->traces.load(std::memory_order_relaxed);
  if (!trace_active(traces)) return;
  trace_access(traces, {.time_ns = spin_clock_ns(),
                        .offset = offset,
                        .value = value,
                        .thread = static_cast<uint32_t>(abi::tid()),
                        .region = port->region.load(std::memory_order_relaxed),
                        .width = static_cast<uint8_t>(width),
                        .write = write,
                        .raw = raw});
}

// How long an accessor looks before it sleeps: being woken costs more than most models take.
constexpr uint32_t kAnswerSpinUs = 50;

AskedAccess* take_slot(uint32_t* word) {
  for (AskedAccess& slot : g_asked_accesses) {
    uint32_t seen = slot.word.load(std::memory_order_relaxed);
    if (state_of(seen) != AskedAccess::kFree) continue;
    *word = seen + AskedAccess::kFilling;
    if (slot.word.compare_exchange_strong(seen, *word, std::memory_order_acquire)) return &slot;
  }
  return nullptr;
}

void fill_slot(AskedAccess* slot, RegisterPort* port, const RegisterAccess& access, int thread) {
  slot->port.store(port, std::memory_order_relaxed);
  slot->offset = access.offset;
  slot->width = access.width;
  slot->reads = access.reads;
  slot->writes = access.writes;
  slot->thread = thread;
  slot->value = access.value;
  slot->combines = access.combination != nullptr;
  if (slot->combines) slot->combination = *access.combination;
}

void leave_with_owner(RegisterPort* port, AskedAccess* slot) {
  const bool alone = port_push(port, slot);
  // Shut meanwhile, and the thread that shut it may have looked too early for this one.
  if (!port->open.load()) return port_sweep(port);
  if (alone) port_ring(port);  // else the thread that left the one before has rung, and the owner takes all
}

// Whether the slot has come to its end; gives it back then.
bool collect(AskedAccess* slot, AccessResult* result, uint64_t* value) {
  const uint32_t word = slot->word.load(std::memory_order_acquire);
  const uint32_t state = state_of(word);
  if (state != AskedAccess::kAnswered && state != AskedAccess::kGone) return false;
  *value = slot->value;
  *result = state == AskedAccess::kGone ? AccessResult::gone : slot->failed ? AccessResult::failed : AccessResult::answered;
  slot->word.store(freed(word), std::memory_order_release);
  return true;
}

// No thread waits for it any more. False when it is being taken or answered in this moment.
bool leave(AskedAccess* slot) {
  uint32_t word = slot->word.load(std::memory_order_acquire);
  const uint32_t state = state_of(word);
  if (state == AskedAccess::kAsked) {  // still on the list: the thread that takes it off gives it back
    return slot->word.compare_exchange_strong(word, word - state + AskedAccess::kLeft, std::memory_order_acq_rel);
  }
  if (state != AskedAccess::kTaken) return false;
  return slot->word.compare_exchange_strong(word, freed(word), std::memory_order_acq_rel);
}

AccessResult await_answer(RegisterPort* port, AskedAccess* slot, uint64_t limit_ns, uint64_t* value) {
  AccessResult result;
  const uint64_t begun = spin_clock_ns();
  while (g_register_waits_spin.load(std::memory_order_relaxed) && spin_clock_ns() - begun < uint64_t{kAnswerSpinUs} * 1000) {
    if (collect(slot, &result, value)) return result;
    for (int i = 0; i < 8; ++i) relax_processor();
  }
  for (;;) {
    const uint32_t word = slot->word.load(std::memory_order_acquire);
    if (collect(slot, &result, value)) return result;
    const uint64_t now = spin_clock_ns();
    if (now - begun >= limit_ns && leave(slot)) {
      port_sweep(port);  // or what has been left would use up the slots while the owner does not look
      return AccessResult::late;
    }
    // While it is being taken or answered its word changes in a moment.
    const uint64_t left = now - begun < limit_ns ? limit_ns - (now - begun) : 100'000;
    const timespec limit{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
    futex_wait_private(&slot->word, word, &limit);
  }
}

}  // namespace

void port_let_go(RegisterPort* port) {
  for (AskedAccess* slot = take_all(port); slot != nullptr;) {
    AskedAccess* next = slot->next;
    if (!end_asked(slot)) free_if_left(slot);
    slot = next;
  }
  for (AskedAccess& slot : g_asked_accesses) {
    // The word first: one that is the same at the end has belonged to this port in between. Sequentially consistent, as the gate,
    // which has been shut before: take_one looks the other way.
    const uint32_t word = slot.word.load();
    if (state_of(word) == AskedAccess::kTaken && slot.port.load(std::memory_order_relaxed) == port) end_taken(&slot, word);
  }
}

void port_sweep(RegisterPort* port) {
  do {
    for (AskedAccess* slot = take_all(port); slot != nullptr;) {
      AskedAccess* next = slot->next;
      const bool over = free_if_left(slot) || (!port->open.load() && (end_asked(slot) || free_if_left(slot)));
      if (!over) port_push(port, slot);
      slot = next;
    }
    // Shut since: the thread that shut it may have looked before what stands above put something back.
  } while (!port->open.load() && port->asked.load() != nullptr);
  port_ring(port);
}

bool port_asks(const RegisterPort* port, uint64_t offset, unsigned bytes, bool reads, bool writes) {
  const RegisterFile* file = port->asking.load(std::memory_order_relaxed);
  return file != nullptr && file->asks(offset, bytes, reads, writes);
}

AccessResult ask_for_access(RegisterPort* port, uint32_t incarnation, const RegisterAccess& access, uint64_t* value) {
  const int thread = abi::tid();
  if (port->owner_tid.load(std::memory_order_relaxed) == thread) return AccessResult::self;
  const uint64_t limit_ns = uint64_t{port->limit_ms.load(std::memory_order_relaxed)} * 1'000'000;
  const uint64_t begun = spin_clock_ns();
  uint32_t word = 0;
  AskedAccess* slot;
  while ((slot = take_slot(&word)) == nullptr) {  // more threads wait than there are slots
    if (!port->open.load()) return AccessResult::gone;
    if (spin_clock_ns() - begun >= limit_ns) return AccessResult::late;
    const timespec pause{0, 100'000};
    syscall(SYS_nanosleep, &pause, nullptr);
  }
  fill_slot(slot, port, access, thread);
  slot->incarnation = incarnation;
  slot->word.store(word - AskedAccess::kFilling + AskedAccess::kAsked, std::memory_order_release);
  leave_with_owner(port, slot);
  return await_answer(port, slot, limit_ns, value);
}

uint64_t model_read(RegisterPort* port, const RegisterModel& model, uint64_t offset, unsigned width, bool raw) {
  const uint64_t value = low_bytes(model.read(model.context, offset, width), width);
  trace(port, offset, width, value, false, raw);
  return value;
}

void model_write(RegisterPort* port, const RegisterModel& model, uint64_t offset, unsigned width, uint64_t value, bool raw) {
  model.write(model.context, offset, width, low_bytes(value, width));
  trace(port, offset, width, low_bytes(value, width), true, raw);
}

}  // namespace revocable
