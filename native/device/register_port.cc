#include "device/register_port.h"

#include <algorithm>
#include <cstring>

#include "core/mapping_record.h"
#include "core/registry.h"
#include "device/device.h"
#include "device/register_file.h"
#include "device/register_slots.h"

namespace revocable {

namespace {

std::atomic<RegisterPort*> g_newest_port{nullptr};

uint64_t token_of(const AskedAccess* slot, uint32_t word) {
  return (uint64_t{word >> AskedAccess::kStateBits} * kAskedAccesses + static_cast<size_t>(slot - g_asked_accesses.data())) + 1;
}

AskedAccess* slot_of(uint64_t token) { return &g_asked_accesses[(token - 1) % kAskedAccesses]; }

// The word of that token's generation in `state`.
uint32_t word_of(uint64_t token, AskedAccess::State state) {
  return (static_cast<uint32_t>((token - 1) / kAskedAccesses) << AskedAccess::kStateBits) + state;
}

TakenAccess copy_of(const AskedAccess& slot, uint32_t word, uint32_t region) {
  return {token_of(&slot, word), slot.offset,   region,      slot.width, slot.reads,
          slot.writes,           slot.combines, slot.thread, slot.value, slot.combination};
}

}  // namespace

// Off the list. The thread that has been waiting for it may have left it there.
static void take_one(RegisterPort* port, AskedAccess* slot, std::vector<TakenAccess>* taken) {
  uint32_t word = slot->word.load(std::memory_order_acquire);
  if (state_of(word) == AskedAccess::kAsked && move_on(slot, &word, AskedAccess::kCopying)) {
    if (slot->incarnation != port->incarnation.load(std::memory_order_relaxed)) return finish(slot, word, AskedAccess::kGone);
    taken->push_back(copy_of(*slot, word, port->region.load(std::memory_order_relaxed)));
    word = with_state(word, AskedAccess::kTaken);
    slot->word.store(word);  // before the look at the gate: the thread that shuts it looks the other way
    if (!port->open.load()) end_taken(slot, word);
    return;
  }
  free_if_left(slot);  // perhaps in this moment
}

void port_take(RegisterPort* port, std::vector<TakenAccess>* taken) {
  for (AskedAccess* slot = take_all(port); slot != nullptr;) {
    AskedAccess* next = slot->next;
    take_one(port, slot, taken);
    slot = next;
  }
}

bool port_is_taken(uint64_t token) {
  return slot_of(token)->word.load(std::memory_order_acquire) == word_of(token, AskedAccess::kTaken);
}

bool port_answer(uint64_t token, bool failed, uint64_t value) {
  AskedAccess* slot = slot_of(token);
  uint32_t word = word_of(token, AskedAccess::kTaken);
  if (!move_on(slot, &word, AskedAccess::kAnswering)) return false;
  slot->failed = failed;
  slot->value = value;
  finish(slot, word, AskedAccess::kAnswered);
  return true;
}

static RegisterPort* new_port() {
  auto* port = new RegisterPort;
  port->older = g_newest_port.load(std::memory_order_relaxed);
  // Release: a child whose thread was in the midst of this finds it whole, or not at all.
  while (!g_newest_port.compare_exchange_weak(port->older, port, std::memory_order_release)) {
  }
  return port;
}

void port_after_fork() {
  for (RegisterPort* port = g_newest_port.load(std::memory_order_acquire); port != nullptr; port = port->older)
    port->turn.store(0);
}

void port_begin(Object* object, const PortOptions& options) {
  RegisterPort* port = object->port.load(std::memory_order_relaxed);
  if (port == nullptr) port = new_port();
  const SignalsBlocked blocked;
  {
    const PortTurn turn(port);
    port->incarnation.fetch_add(1);
    const RegisterFile* file = RegisterFile::of(options.model);
    port->model.store(options.model, std::memory_order_relaxed);
    port->asking.store(file != nullptr && file->asks() ? file : nullptr, std::memory_order_relaxed);
    port->device.store(options.device->id, std::memory_order_relaxed);
    port->owner_tid.store(options.device->owner_tid, std::memory_order_relaxed);
    port->limit_ms.store(options.device->limit_ms, std::memory_order_relaxed);
    port->bell.store(options.bell, std::memory_order_relaxed);
    port->region.store(options.region, std::memory_order_relaxed);
    port->traces.store(options.device->traces, std::memory_order_relaxed);
  }
  port->open.store(true);  // publishes what stands above to threads that find it open
  object->port.store(port, std::memory_order_release);
  object->trapped = options.trapped;
}

void port_shut(RegisterPort* port) {
  if (port == nullptr) return;
  const SignalsBlocked blocked;
  port->open.store(false);  // before the turn: its next holder sees it shut; sequentially consistent with ask_for_access
  { const PortTurn turn(port); }
  port_let_go(port);
}

void port_open(RegisterPort* port) {
  if (port == nullptr) return;
  const SignalsBlocked blocked;
  const PortTurn turn(port);
  if (port->device.load(std::memory_order_relaxed) != 0) port->open.store(true);
}

void port_shut_of(RegisterPort* port, uint64_t device) {
  {
    const SignalsBlocked blocked;
    const PortTurn turn(port);
    if (port->device.load(std::memory_order_relaxed) != device) return;
    port->device.store(0, std::memory_order_relaxed);  // and is not opened again
    port->open.store(false);
  }
  port_let_go(port);
}

PortAnswer port_access(RegisterPort* port, bool write, uint64_t offset, unsigned width, uint64_t* value) {
  const SignalsBlocked blocked;
  const PortTurn turn(port);
  const RegisterModel* model = port->model.load(std::memory_order_relaxed);
  if (!port->open.load() || model == nullptr) return PortAnswer::gone;
  if (port_asks(port, offset, width, !write, write)) return PortAnswer::asks;
  if (write) model_write(port, *model, offset, width, *value, false);
  else *value = model_read(port, *model, offset, width, false);
  return PortAnswer::given;
}

void port_access_asked(RegisterPort* port, const RegisterModel& model, bool write, uint64_t offset, unsigned width,
                       uint64_t* value) {
  const SignalsBlocked blocked;
  const auto access = [&] {
    if (write) model.write(model.context, offset, width, *value);
    else *value = model.read(model.context, offset, width);
  };
  if (port == nullptr) return access();
  const PortTurn turn(port);
  access();
}

}  // namespace revocable
