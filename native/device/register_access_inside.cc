// Runs in the fault handler, and in that for SIGTRAP: see the rules at the top of handler_inside.cc.
#include "device/register_access.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/counters.h"
#include "core/mapping_table.h"
#include "device/device.h"
#include "device/register_trap.h"
#include "fault/fault.h"

namespace revocable {

namespace {

bool permitted(const Mapping* mapping, uintptr_t address, const MemoryAccess& access) {
  const int prot = prot_of(mark_access(mapping->mark_of(mapping->page_of(address))), *mapping);
  return (!access.reads || (prot & PROT_READ) != 0) && (!access.writes || (prot & PROT_WRITE) != 0);
}

AccessVerdict judge(const Mapping* mapping, const MemoryAccess& access) {
  const uintptr_t last = access.address + access.width - 1;
  if (access.address < mapping->start || last - mapping->start >= mapping->length) return AccessVerdict::refused;
  if (!permitted(mapping, access.address, access) || !permitted(mapping, last, access)) return AccessVerdict::forbidden;
  return mapping->state.load(std::memory_order_acquire) == State::live ? AccessVerdict::deliver : AccessVerdict::gone;
}

}  // namespace

Target target_of(Mapping* mapping, const MemoryAccess& access) {
  Target target;
  target.port = mapping->object->port.load(std::memory_order_acquire);
  target.incarnation = target.port->incarnation.load(std::memory_order_acquire);
  target.address = std::max(access.address, mapping->start);
  target.verdict = judge(mapping, access);  // after it: a mapping that lives now has had that port all the time
  target.fill = mapping->fill;
  target.slot = mapping->slot;
  target.generation = mapping->generation;
  target.offset = mapping->object_offset + (access.address - mapping->start);  // registers are not rearranged
  return target;
}

// A mapping of registers that lives, or null.
Mapping* trapped_mapping(uintptr_t address) {
  Mapping* mapping = find_mapping(address);
  return mapping != nullptr && mapping->trapped && mapping->state.load(std::memory_order_acquire) == State::live ? mapping
                                                                                                                 : nullptr;
}

uint64_t fill_word(Fill fill) { return fill == Fill::ones ? ~uint64_t{0} : 0; }

void report_event(const Target& target, bool write, EventKind kind, Cause cause) {
  const ReaderScope scope;
  Mapping* mapping = find_mapping(target.address);
  if (mapping == nullptr || mapping->slot != target.slot || mapping->generation != target.generation) return;
  DeviceMapping* device_mapping = mapping->device_mapping;
  if (kind == EventKind::fault_self) {
    device_mapping->self_faults.fetch_add(1);
    bump(g_counters.self_faults);
  } else if (kind != EventKind::fault_protection) {
    note_raw_failure(mapping, target.address, cause);
  }
  report_access(mapping, target.address, write, kind, cause);
}

// Where the mapping lives on, as after a suspension, nothing else would tell. Events come by the mapping's end.
void note_gone(const Target& target) {
  if (target.verdict != AccessVerdict::deliver && target.verdict != AccessVerdict::gone) return;
  const ReaderScope scope;
  Mapping* mapping = find_mapping(target.address);
  if (mapping == nullptr || mapping->slot != target.slot || mapping->generation != target.generation) return;
  note_raw_failure(mapping, target.address, Cause::none);
}

void report_verdict(const Target& target, const MemoryAccess& access) {
  if (target.verdict == AccessVerdict::forbidden) {
    report_event(target, access.writes, EventKind::fault_protection, Cause::none);
  } else if (target.verdict == AccessVerdict::refused) {
    bump(g_counters.accesses_refused);
    report_event(target, access.writes, EventKind::fault_refused, Cause::refused);
  }
}

void report_result(const Target& target, const MemoryAccess& access, AccessResult result) {
  switch (result) {
    case AccessResult::answered: return;
    case AccessResult::gone: return note_gone(target);
    case AccessResult::failed: return report_event(target, access.writes, EventKind::fault_backing, Cause::failed);
    case AccessResult::late: return report_event(target, access.writes, EventKind::fault_backing, Cause::no_answer);
    case AccessResult::self: return report_event(target, access.writes, EventKind::fault_self, Cause::none);
  }
}

// Whether there still is what the access was for.
bool is_behind(const Target& target) {
  return target.port->open.load() && target.port->incarnation.load(std::memory_order_relaxed) == target.incarnation;
}

void read_pieces(RegisterPort* port, const RegisterModel& model, uint64_t offset, unsigned bytes, void* into) {
  for_each_piece(offset, bytes, [&](uint64_t at, unsigned width, unsigned done) {
    const uint64_t value = model_read(port, model, at, width, true);
    memcpy(static_cast<char*>(into) + done, &value, width);
    return true;
  });
}

void write_pieces(RegisterPort* port, const RegisterModel& model, uint64_t offset, unsigned bytes, const void* from) {
  for_each_piece(offset, bytes, [&](uint64_t at, unsigned width, unsigned done) {
    uint64_t value = 0;
    memcpy(&value, static_cast<const char*>(from) + done, width);
    model_write(port, model, at, width, value, true);
    return true;
  });
}

AccessResult ask_for_bytes(const Target& target, uint64_t offset, unsigned bytes, bool write, char* at) {
  AccessResult result = AccessResult::answered;
  for_each_piece(offset, bytes, [&](uint64_t piece, unsigned width, unsigned done) {
    RegisterAccess access{.offset = piece, .width = width, .reads = !write, .writes = write};
    if (write) memcpy(&access.value, at + done, width);
    uint64_t value = 0;
    result = ask_for_access(target.port, target.incarnation, access, &value);
    if (!write) memcpy(at + done, &value, width);
    return result == AccessResult::answered;
  });
  return result;
}

namespace {

// Bytes one behind the other that an access touches: all of them, but under a mask. Ends early, and returns false, when
// `each(at, bytes)` does; `at` counts from the access's first byte.
template <typename Each>
bool for_each_run(const MemoryAccess& access, Each each) {
  for (unsigned at = 0; at < access.width;) {
    const unsigned first = at + static_cast<unsigned>(std::countr_zero(access.enabled >> at));
    const unsigned most = access.width - first;
    const unsigned bytes = std::min(most, static_cast<unsigned>(std::countr_one(access.enabled >> first)));
    if (!each(first, bytes)) return false;
    at = first + bytes;
  }
  return true;
}

}  // namespace

// Bytes from the model, or to it, piece by piece; without another thread's access in between where the model is C++. Those that
// are not enabled stay as they are.
AccessResult transfer(const Target& target, const MemoryAccess& access, bool write, char* bytes) {
  {
    const PortTurn turn(target.port);
    if (!is_behind(target)) return AccessResult::gone;
    const RegisterModel* model = target.port->model.load(std::memory_order_relaxed);
    const bool answers = for_each_run(
        access, [&](unsigned at, unsigned run) { return !port_asks(target.port, target.offset + at, run, !write, write); });
    if (model != nullptr && answers) {
      for_each_run(access, [&](unsigned at, unsigned run) {
        if (write) write_pieces(target.port, *model, target.offset + at, run, bytes + at);
        else read_pieces(target.port, *model, target.offset + at, run, bytes + at);
        return true;
      });
      return AccessResult::answered;
    }
  }
  AccessResult result = AccessResult::answered;
  for_each_run(access, [&](unsigned at, unsigned run) {
    result = ask_for_bytes(target, target.offset + at, run, write, bytes + at);
    return result == AccessResult::answered;
  });
  return result;
}

}  // namespace revocable
