// Runs in the fault handler: see the rules at the top of handler_inside.cc.
#include "fault/backing.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <cerrno>

#include "base/counters.h"
#include "base/file_size.h"
#include "base/linux_abi.h"
#include "base/memfd.h"
#include "base/page.h"
#include "core/handler_work.h"
#include "core/registry.h"
#include "core/reserve.h"
#include "fault/fill.h"
#include "fault/handler.h"
#include "fault/probe.h"
#include "instruction/decode.h"
#include "instruction/emulate.h"
#include "instruction/machine_context.h"
#include "instruction/vector.h"

namespace revocable {

bool g_guard_pages = false;

namespace {

bool file_system_full(int fd) {
  struct statfs status;
  return fstatfs(fd, &status) == 0 && status.f_blocks != 0 && status.f_bavail == 0;
}

// True for the first `limit` faults in a row of this thread on this page: it may have come back in the meantime (a file that was
// truncated and grew again), and then the access only has to be made again. Of a checked access, its caller counts.
bool may_retry(Mapping* mapping, const Fault& fault, uint32_t limit, uint32_t checked_limit) {
  if (!fault.raw()) return fault.failures < checked_limit;
  const uint64_t tag = (static_cast<uint64_t>(abi::tid()) << 40) ^ (fault.address >> kPageShift);
  if (mapping->retry_tag.exchange(tag, std::memory_order_relaxed) != tag) mapping->retries.store(0, std::memory_order_relaxed);
  return mapping->retries.fetch_add(1, std::memory_order_relaxed) < limit;
}

// A page that can be read and still faults on reading comes and goes: trying again is all there is, for as long as it does. One
// that can be read and faults on writing may do so for lack of space.
constexpr uint32_t kReadRetries = 100'000, kWriteRetries = 64, kGoneRetries = 256;
// A checked access can say what it found instead, and may be a long copy.
constexpr uint32_t kCheckedRetries = 64, kCheckedGoneRetries = 4;

// Where the object's pages end. A block device whose capacity is 0 is gone, not short: all of it is lost, not only this page.
uint64_t end_of_pages(const Object* object, const struct stat& status) {
  const uint64_t size = file_size(object->fd, status);
  if (object->regular) return size;
  return S_ISBLK(status.st_mode) && size > 0 ? size : UINT64_MAX;
}

bool ends_before(const Object* object, uint64_t page_offset) {
  struct stat status;
  return fstat(object->fd, &status) == 0 && page_offset >= end_of_pages(object, status);
}

}  // namespace

// Why a live mapping's page cannot be had. Runs before the claim is taken, as it asks the file system.
Diagnosis diagnose(Mapping* mapping, const Fault& fault) {
  const Object* object = mapping->object;
  if (fault.code == BUS_MCEERR_AR) return {Cause::poisoned, false, false};
  struct stat status;
  if (fstat(object->fd, &status) != 0) return {Cause::unknown, false, false};
  if (object_revoked_by_owner(object)) return {Cause::none, true, false};
  const uint64_t page_offset = mapping->object_offset_of(mapping->page_of(fault.address));
  if (page_offset >= end_of_pages(object, status)) return {Cause::past_end, false, false};
  const bool can_read = readable(fault.address);
  // The file had grown again when its size was looked at first, and has shrunk since.
  if (!can_read && ends_before(object, page_offset)) return {Cause::past_end, false, false};
  const bool full = can_read && fault.write && file_system_full(object->fd);
  const uint32_t limit = fault.write ? kWriteRetries : kReadRetries;
  if (can_read && !full && may_retry(mapping, fault, limit, kCheckedRetries)) return {Cause::none, false, true};
  if (mapping->page_shift != kPageShift) return {Cause::no_space, false, false};  // no free 2 MiB page
  if (can_read && fault.write) return {Cause::no_space, false, false};            // it is there, but cannot be allocated
  if (file_system_full(object->fd)) return {Cause::no_space, false, false};
  // It comes and goes for ever: its file is truncated and grows.
  if (can_read && object->regular && !object->owned) return {Cause::past_end, false, false};
  // Its file may have shrunk for the look at the page only.
  const bool again = object->regular && may_retry(mapping, fault, kGoneRetries, kCheckedGoneRetries);
  return {Cause::unknown, false, again};
}

namespace {

// False when it was shut for good before.
bool shut_gate_for(Object* object, Cause cause) {
  State before = object->gate.load();
  do {
    if (before == State::revoked || before == State::closed) return false;
  } while (!object->gate.compare_exchange_weak(before, State::revoked));
  object->revoke_cause.store(cause);
  return true;
}

}  // namespace

// The whole object is gone: this mapping at once, the others by the service thread.
Outcome lose_object(Mapping* mapping, const Fault& fault, Cause cause) {
  Object* object = mapping->object;
  if (shut_gate_for(object, cause) && !object->revoke_taken.exchange(true)) object->revoke_wanted.store(true);
  if (cause != Cause::none && ensure_marks(mapping)) {
    const size_t page = mapping->page_of(fault.address);
    set_mark(mapping, page, static_cast<PageMark>(static_cast<PageMark>(cause) << kMarkCauseShift));
  }
  publish_state(mapping, State::revoked);
  leave_work(mapping);
  if (!fault.raw()) return Outcome::handled;
  return plug(mapping, fault, cause == Cause::none ? g_counters.faults_revoked : g_counters.faults_backing);
}

namespace {

// The fill of one lost page, or of everything from it to the end. The mark says that it is there.
bool fill_lost(Mapping* mapping, size_t page, const Fault& fault, Cause cause) {
  const int prot = PROT_READ | mapping->base_prot() | fault.need();
  const uintptr_t from = mapping->page_address(page);
  if (map_fill(mapping, from, mapping->page_size(), prot)) {
    set_mark(mapping, page, mapping->mark_of(page) | kMarkLostFilled);
    return true;
  }
  // One page too many for max_map_count: everything from here to the end, which is past the end of the file too, goes in one
  // piece.
  if (cause != Cause::past_end) return false;
  mapping->lost_from.store(from, std::memory_order_release);
  publish_state(mapping, State::live);
  mapping->tail_filled = map_fill(mapping, from, mapping->end - from, prot);
  return mapping->tail_filled;
}

void complete_load(MachineContext& machine, const Instruction& load, uint64_t fill) {
  if (load.emulated) return apply_effect(machine, load, effect_of(load, operands_of(load, machine), fill, fill));
  uint64_t read[kWidestVector / 8];
  for (uint64_t& word : read) word = fill;
  load_vector(machine, load, read);
  step_over(machine, load);
}

// Gives an instruction that only reads into registers its value without a fill, which most never need: a checked access does not
// come again. A guard page takes the page's place, so that no thread reaches its file should that grow back; a thread that
// touches it next gets the fill (lost_before).
bool answer_load(const Mapping* mapping, size_t page, const Fault& fault) {
  if (!fault.raw() || fault.write || !g_guard_pages || mapping->page_shift != kPageShift) return false;
  uint8_t code[kLongestInstruction];
  const Instruction load = decode_instruction(code, read_code(fault.machine->pc(), code), *fault.machine);
  const uintptr_t start = mapping->page_address(page);
  const MemoryAccess& access = load.access[0];
  if (!load.emulated && !moves_vector(load, *fault.machine)) return false;
  if (access.writes || access.address != fault.address) return false;
  if (access.address + access.width > start + kPageSize) return false;
  // Refused where the page is locked in memory, and for files before Linux 6.15.
  if (madvise(reinterpret_cast<void*>(start), kPageSize, abi::kMadvGuardInstall) != 0) return false;
  complete_load(*fault.machine, load, mapping->fill == Fill::ones ? ~uint64_t{0} : 0);
  return true;
}

}  // namespace

// The tombstone takes the place of a lost page, so that the object does not show there again when its backing comes back.
bool hide_page(const Mapping* mapping, size_t page) {
  const int prot = prot_of(mark_access(mapping->mark_of(page)), *mapping);
  return map_over(mapping->page_address(page), mapping->page_size(), prot, MAP_SHARED, tombstone_fd(), 0);
}

namespace {

// Only this page is gone. Its mark is published before the access completes.
Outcome lose_page(Mapping* mapping, const Fault& fault, Cause cause) {
  if (!ensure_marks(mapping)) return lose_object(mapping, fault, cause);
  const size_t page = mapping->page_of(fault.address);
  mark_lost(mapping, page, cause);
  publish_state(mapping, State::live);
  const bool deadly = mapping->fill == Fill::deadly;
  if (deadly && fault.raw()) return Outcome::foreign;
  const bool answered = !deadly && (answer_load(mapping, page, fault) || fill_lost(mapping, page, fault, cause));
  // A checked copy that has come back needs no fill. In a sealed range (mseal) nothing can be hidden: EPERM, and the mark alone
  // says that the page is lost.
  if (!answered && (fault.raw() || (!hide_page(mapping, page) && errno != EPERM))) return lose_object(mapping, fault, cause);
  if (answered) bump(g_counters.fills);
  count_fault(mapping, g_counters.faults_backing);
  push_fault_event(mapping, fault, EventKind::fault_backing, cause);
  return Outcome::handled;
}

}  // namespace

bool lost_has_fill(const Mapping* mapping, size_t page) {
  const bool in_tail = mapping->page_address(page) >= mapping->lost_from.load();
  return (mapping->mark_of(page) & kMarkLostFilled) != 0 || (in_tail && mapping->tail_filled);
}

// The page was lost before: another thread's fault filled it; or it was lost without a fill, and this access needs one. The fault
// that lost it has been counted and announced.
Outcome lost_before(Mapping* mapping, const Fault& fault, Cause cause) {
  if (!fault.raw()) return Outcome::handled;
  if (mapping->fill == Fill::deadly) return Outcome::foreign;
  const size_t page = mapping->page_of(fault.address);
  if (lost_has_fill(mapping, page)) return futile(mapping);
  return fill_lost(mapping, page, fault, cause) ? Outcome::handled : lose_object(mapping, fault, cause);
}

Outcome backing_fault(Mapping* mapping, const Fault& fault, const Diagnosis& diagnosis) {
  const Cause lost = mapping->lost_cause(mapping->page_of(fault.address));
  if (lost != Cause::none) return lost_before(mapping, fault, lost);
  // revoke() has shut the gate and truncated, and has not come to this mapping yet.
  if (mapping->object->gate.load() == State::revoked || diagnosis.revoked_by_owner)
    return lose_object(mapping, fault, Cause::none);
  if (diagnosis.try_again) return Outcome::handled;
  const FaultScope scope = mapping->object->scope;
  const bool whole = scope == FaultScope::object || (scope == FaultScope::by_cause && diagnosis.cause == Cause::unknown);
  if (!whole) return lose_page(mapping, fault, diagnosis.cause);
  const Outcome outcome = lose_object(mapping, fault, diagnosis.cause);
  if (outcome == Outcome::handled) push_fault_event(mapping, fault, EventKind::fault_backing, diagnosis.cause);
  return outcome;
}

}  // namespace revocable
