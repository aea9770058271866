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

std::atomic<RegisterBus*> g_newest_bus{nullptr};

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

// Off the list. Whoever has been waiting for it may have left it there.
static void take_one(RegisterBus* bus, AskedAccess* slot, std::vector<TakenAccess>* taken) {
  uint32_t word = slot->word.load(std::memory_order_acquire);
  if (state_of(word) == AskedAccess::kAsked && move_on(slot, &word, AskedAccess::kCopying)) {
    if (slot->incarnation != bus->incarnation.load(std::memory_order_relaxed)) return finish(slot, word, AskedAccess::kGone);
    taken->push_back(copy_of(*slot, word, bus->region.load(std::memory_order_relaxed)));
    word = with_state(word, AskedAccess::kTaken);
    slot->word.store(word);  // before the look at the gate: whoever shuts it looks the other way
    if (!bus->open.load()) end_taken(slot, word);
    return;
  }
  free_if_left(slot);  // perhaps in this moment
}

void bus_take(RegisterBus* bus, std::vector<TakenAccess>* taken) {
  for (AskedAccess* slot = take_all(bus); slot != nullptr;) {
    AskedAccess* next = slot->next;
    take_one(bus, slot, taken);
    slot = next;
  }
}

bool bus_is_taken(uint64_t token) {
  return slot_of(token)->word.load(std::memory_order_acquire) == word_of(token, AskedAccess::kTaken);
}

bool bus_answer(uint64_t token, bool failed, uint64_t value) {
  AskedAccess* slot = slot_of(token);
  uint32_t word = word_of(token, AskedAccess::kTaken);
  if (!move_on(slot, &word, AskedAccess::kAnswering)) return false;
  slot->failed = failed;
  slot->value = value;
  finish(slot, word, AskedAccess::kAnswered);
  return true;
}

static RegisterBus* new_bus() {
  auto* bus = new RegisterBus;
  bus->older = g_newest_bus.load(std::memory_order_relaxed);
  // Release: a child whose thread was in the midst of this finds it whole, or not at all.
  while (!g_newest_bus.compare_exchange_weak(bus->older, bus, std::memory_order_release)) {
  }
  return bus;
}

void bus_after_fork() {
  for (RegisterBus* bus = g_newest_bus.load(std::memory_order_acquire); bus != nullptr; bus = bus->older) bus->turn.store(0);
}

void bus_begin(Object* object, const BusOptions& options) {
  RegisterBus* bus = object->bus.load(std::memory_order_relaxed);
  if (bus == nullptr) bus = new_bus();
  const SignalsBlocked blocked;
  {
    const BusTurn turn(bus);
    bus->incarnation.fetch_add(1);
    const RegisterFile* file = RegisterFile::of(options.model);
    bus->model.store(options.model, std::memory_order_relaxed);
    bus->asking.store(file != nullptr && file->asks() ? file : nullptr, std::memory_order_relaxed);
    bus->device.store(options.device->id, std::memory_order_relaxed);
    bus->owner_tid.store(options.device->owner_tid, std::memory_order_relaxed);
    bus->limit_ms.store(options.device->limit_ms, std::memory_order_relaxed);
    bus->bell.store(options.bell, std::memory_order_relaxed);
    bus->region.store(options.region, std::memory_order_relaxed);
    bus->traces.store(options.device->traces, std::memory_order_relaxed);
  }
  bus->open.store(true);  // publishes what stands above to whoever finds it open
  object->bus.store(bus, std::memory_order_release);
  object->trapped = options.trapped;
}

void bus_shut(RegisterBus* bus) {
  if (bus == nullptr) return;
  const SignalsBlocked blocked;
  bus->open.store(false);  // before the turn: whoever has it next sees it shut; sequentially consistent with ask_for_access
  { const BusTurn turn(bus); }
  bus_let_go(bus);
}

void bus_open(RegisterBus* bus) {
  if (bus == nullptr) return;
  const SignalsBlocked blocked;
  const BusTurn turn(bus);
  if (bus->device.load(std::memory_order_relaxed) != 0) bus->open.store(true);
}

void bus_shut_of(RegisterBus* bus, uint64_t device) {
  {
    const SignalsBlocked blocked;
    const BusTurn turn(bus);
    if (bus->device.load(std::memory_order_relaxed) != device) return;
    bus->device.store(0, std::memory_order_relaxed);  // and is not opened again
    bus->open.store(false);
  }
  bus_let_go(bus);
}

BusAnswer bus_access(RegisterBus* bus, bool write, uint64_t offset, unsigned width, uint64_t* value) {
  const SignalsBlocked blocked;
  const BusTurn turn(bus);
  const RegisterModel* model = bus->model.load(std::memory_order_relaxed);
  if (!bus->open.load() || model == nullptr) return BusAnswer::gone;
  if (bus_asks(bus, offset, width, !write, write)) return BusAnswer::asks;
  if (write) model_write(bus, *model, offset, width, *value, false);
  else *value = model_read(bus, *model, offset, width, false);
  return BusAnswer::given;
}

void bus_access_asked(RegisterBus* bus, const RegisterModel& model, bool write, uint64_t offset, unsigned width,
                      uint64_t* value) {
  const SignalsBlocked blocked;
  const auto access = [&] {
    if (write) model.write(model.context, offset, width, *value);
    else *value = model.read(model.context, offset, width);
  };
  if (bus == nullptr) return access();
  const BusTurn turn(bus);
  access();
}

}  // namespace revocable
