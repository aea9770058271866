// PLEASE READ BEFORE CHANGING THIS FILE.
//
// Everything here may run inside a signal handler, in any thread, between any two instructions of any program:
//
//   1. No lock, no malloc, no logging, no thread-local storage, no function-local static, no Node-API call, and nothing that
//      does one of these. System calls, lock-free atomics and what this file defines are all there is. mmap(2) and mremap(2)
//      are not on POSIX's list of async-signal-safe functions; on Linux they are plain system calls and safe.
//   2. The handler returns only after something has changed that lets the faulting instruction go on, after passing the
//      signal on, or after a wait for somebody else's change; each way back that changes nothing is counted and bounded, or a
//      thread would fault for ever.
//
// What runs in normal code and changes the same state holds the same claim (mapping_record.h) with asynchronous signals blocked.
#include "fault/handler.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/counters.h"
#include "base/features.h"
#include "base/file_size.h"
#include "base/linux_abi.h"
#include "base/map_file.h"
#include "base/memfd.h"
#include "base/page.h"
#include "core/event_ring.h"
#include "core/handler_work.h"
#include "core/mapping_record.h"
#include "core/mapping_table.h"
#include "core/registry.h"
#include "core/service.h"
#include "core/vm_ops.h"
#include "fault/guarded_copy.h"
#include "fault/signal_chain.h"
#include "instruction/decode.h"
#include "instruction/emulate.h"
#include "instruction/machine_context.h"
#include "instruction/vector.h"
#include "instruction/vector_registers.h"

namespace revocable {

HandlerWork g_handler_work;
std::atomic<const StepHandler*> g_step_handler{nullptr};

namespace {

enum class Outcome { handled, foreign };

struct Fault {
  uintptr_t address;
  int signal;
  int code;
  bool write;
  MachineContext* machine;         // of the instruction that waits; none for a checked access, which has come back
  uint32_t failures = UINT32_MAX;  // of a checked access: how often it was made before
  bool raw() const { return machine != nullptr; }
  int need() const { return write ? PROT_WRITE : PROT_READ; }
};

// How often a fault on one mapping may find nothing to do before it is taken for somebody else's. Threads that faulted just
// before another one's fill use it up one by one, and every fill resets it.
constexpr uint32_t kFutileLimit = 4096;

// How often a fault in a closed range is sent back. A thread that faulted before the range was closed needs it once; a fault of
// whoever owns the addresses now comes again.
constexpr uint32_t kClosedLimit = 128;

// How often a raw access waits for checked copies of the same revoked mapping, each of which takes microseconds to its next
// fault.
constexpr uint32_t kCopierWaits = 10'000;

// A mapping of ones up to this size is filled at once; a larger one window by window, as it is touched.
constexpr size_t kOnesAtOnce = size_t{1} << 30;

// --- pages of last resort -----------------------------------------------------------------------------------------------

// Where RLIMIT_AS is exceeded no mmap succeeds any more, but moving existing pages does. These are moved to where an access
// waits for one, one page at a time. Address space only, until it is used.
constexpr size_t kReserveBytes = size_t{64} << 20, kSmallReserveBytes = size_t{256} << 10;
std::atomic<char*> g_reserve{nullptr};
std::atomic<size_t> g_reserve_bytes{0};
std::atomic<size_t> g_reserve_used{0};

bool plug_from_reserve(const Mapping* mapping, uintptr_t page) {
  char* reserve = g_reserve.load(std::memory_order_acquire);
  if (reserve == nullptr || mapping->page_shift != kPageShift) return false;
  const size_t offset = g_reserve_used.fetch_add(kPageSize, std::memory_order_relaxed);
  if (offset >= g_reserve_bytes.load(std::memory_order_relaxed)) return false;
  char* spare = reserve + offset;
  if (mapping->fill == Fill::ones) {
    for (size_t i = 0; i < kPageSize; ++i) const_cast<volatile char*>(spare)[i] = static_cast<char>(0xff);
  }
  return mremap(spare, kPageSize, kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED, reinterpret_cast<void*>(page)) != MAP_FAILED;
}

// Pages with every second one protected differently, so that each is a mapping of its own.
constexpr size_t kBallast = 64;
std::atomic<char*> g_ballast{nullptr};
std::atomic<size_t> g_ballast_used{0};

// Whether the kernel has guard pages. Asked once in normal code.
bool g_guards = false;

// --- fills ----------------------------------------------------------------------------------------------------------------

// Single pages may not use up the ballast: what they end in at the limit is one fill for many of them, which may need a bit too,
// since the kernel may have let the count exceed the limit and then refuses whatever does not reduce it.
bool map_over(uintptr_t start, size_t bytes, int prot, int flags, int fd, uint64_t offset) {
  const size_t keep = bytes <= kPageSize ? kBallast / 2 : 0;
  do {
    if (mmap(reinterpret_cast<void*>(start), bytes, prot, flags | MAP_FIXED | MAP_NORESERVE, fd, static_cast<off_t>(offset)) !=
        MAP_FAILED) {
      return true;
    }
  } while (errno == ENOMEM && drop_ballast(keep));
  return false;
}

struct OnesBlock {
  char bytes[4096];
};
constexpr OnesBlock kOnesBlock = [] {
  OnesBlock block{};
  for (char& byte : block.bytes) byte = static_cast<char>(0xff);
  return block;
}();

// One MAP_FIXED, so nobody ever sees a hole. The second way is for RLIMIT_DATA and overcommit, which do not count shared memory.
bool map_zeros(Mapping* mapping, uintptr_t start, size_t bytes, int prot) {
  if (mmap(reinterpret_cast<void*>(start), bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) !=
      MAP_FAILED) {
    return true;
  }
  if (!map_over(start, bytes, prot, MAP_SHARED, zero_fill_fd(), start)) return false;
  mapping->used_zero_file = true;
  return true;
}

// Private windows, so that a write stays where it was made. Callers pass one window, or the lost tail of a live mapping: another
// thread may write to the first window while the last is still being mapped.
bool map_ones(uintptr_t start, size_t bytes, int prot) {
  for (size_t at = 0; at < bytes; at += kOnesWindow) {
    const size_t part = bytes - at < kOnesWindow ? bytes - at : kOnesWindow;
    if (!map_over(start + at, part, prot, MAP_PRIVATE, ones_fill_fd(), 0)) return false;
  }
  return true;
}

// Ones where private memory is refused (RLIMIT_DATA): written into the range's own place in the zero file first.
bool map_written_ones(Mapping* mapping, uintptr_t start, size_t bytes, int prot) {
  for (size_t at = 0; at < bytes; at += sizeof kOnesBlock.bytes) {
    if (pwrite(zero_fill_fd(), kOnesBlock.bytes, sizeof kOnesBlock.bytes, static_cast<off_t>(start + at)) < 0) return false;
  }
  mapping->used_zero_file = true;
  return map_over(start, bytes, prot, MAP_SHARED, zero_fill_fd(), start);
}

bool map_fill(Mapping* mapping, uintptr_t start, size_t bytes, int prot) {
  if (mapping->fill != Fill::ones) return map_zeros(mapping, start, bytes, prot);
  return map_ones(start, bytes, prot) || map_written_ones(mapping, start, bytes, prot);
}

// Whether the page can be read, asked of the kernel without a signal: rt_sigprocmask copies its second argument from user
// memory (EFAULT) before it refuses the first one (EINVAL), and does nothing.
bool readable(uintptr_t address) {
  constexpr int kNoSuchHow = 0x7fff;
  return syscall(SYS_rt_sigprocmask, kNoSuchHow, round_down(address, kPageSize), nullptr, 8) != 0 && errno == EINVAL;
}

// Whether anything is mapped there: mincore(2) says ENOMEM of a hole.
bool mapped(uintptr_t address) {
  unsigned char resident;
  return mincore(reinterpret_cast<void*>(round_down(address, kPageSize)), kPageSize, &resident) == 0;
}

// --- telling --------------------------------------------------------------------------------------------------------------

void tell(const Mapping* mapping, const Fault& fault, EventKind kind, Cause cause) {
  Event event;
  event.kind = kind;
  event.cause = cause;
  event.write = fault.write;
  event.slot = mapping->slot;
  event.generation = mapping->generation;
  event.object = mapping->object->id;
  event.offset = fault.address - mapping->start;
  push_event(event);
  service_announce();
}

// Under the claim, which the service thread takes after it has emptied the entry: work left again there is not overlooked.
void leave_work(Mapping* mapping) {
  for (auto& entry : g_handler_work.mappings) {
    Mapping* seen = entry.load(std::memory_order_relaxed);
    if (seen == mapping) return;  // the thread has been woken for it
    // Release: the service thread sees what was written to the mapping and its object before.
    if (seen == nullptr && entry.compare_exchange_strong(seen, mapping, std::memory_order_release)) return service_wake();
  }
  g_handler_work.overflowed.store(true, std::memory_order_release);
  service_wake();
}

Outcome futile(Mapping* mapping) {
  bump(g_counters.faults_shared);
  return mapping->futile.fetch_add(1, std::memory_order_relaxed) < kFutileLimit ? Outcome::handled : Outcome::foreign;
}

void count_fault(Mapping* mapping, std::atomic<uint64_t>& kind) {
  mapping->faults.fetch_add(1, std::memory_order_relaxed);
  mapping->futile.store(0, std::memory_order_relaxed);
  bump(kind);
}

// --- revoked and suspended: the whole extent becomes the fill -----------------------------------------------------------------

struct Range {
  uintptr_t start;
  uintptr_t end;
  size_t bytes() const { return end - start; }
};

// The part of the mapping around `address` that is ours: somebody else may have mapped something into the range. Empty when
// `address` is theirs.
Range own_range(const Mapping* mapping, uintptr_t address) {
  if (mapping->extent_count == 0) return {mapping->start, mapping->end};
  if (mapping->extent_count > Mapping::kExtents) {  // more than the record could note when it was looked at
    const uintptr_t page = mapping->page_address(mapping->page_of(address));
    return {page, page + mapping->page_size()};
  }
  for (uint32_t i = 0; i < mapping->extent_count; ++i) {
    const Piece& piece = mapping->extents[i];
    if (address >= piece.start && address < piece.end) return {piece.start, piece.end};
  }
  return {address, address};
}

// What is filled by one system call: what is ours there; of ones, one window of it.
Range fill_unit(const Mapping* mapping, uintptr_t address) {
  Range unit = own_range(mapping, address);
  if (mapping->fill != Fill::ones) return unit;
  const uintptr_t window = mapping->start + round_down(address - mapping->start, kOnesWindow);
  if (unit.start < window) unit.start = window;
  if (unit.end > window + kOnesWindow) unit.end = window + kOnesWindow;
  return unit;
}

bool widen(Mapping* mapping, Range range, int prot) {
  return mprotect(reinterpret_cast<void*>(range.start), range.bytes(), prot) == 0 ||
         // Private writable memory is refused (RLIMIT_DATA). Nobody has written to this fill yet: another one will do.
         map_fill(mapping, range.start, range.bytes(), prot);
}

enum class Plugged { now, before, not_at_all };

Plugged marked_filled(Mapping* mapping, size_t page) {
  set_mark(mapping, page, mapping->mark_of(page) | kMarkFilled);
  if (page < mapping->filled_first) mapping->filled_first = page;
  if (page > mapping->filled_last) mapping->filled_last = page;
  return Plugged::now;
}

bool has_fill_mark(const Mapping* mapping, uintptr_t address) {
  return (mapping->mark_of(mapping->page_of(address)) & kMarkFilled) != 0;
}

// The mark on a unit's first page tells that it is there, so that a second thread does not wipe what the first one wrote.
Plugged plug_unit(Mapping* mapping, uintptr_t address, int prot, int need) {
  const Range unit = fill_unit(mapping, address);
  if (!has_fill_mark(mapping, unit.start)) {
    if (!map_fill(mapping, unit.start, unit.bytes(), prot)) return Plugged::not_at_all;
    return marked_filled(mapping, mapping->page_of(unit.start));
  }
  const bool may_lack_write = need == PROT_WRITE && !mapping->writable;
  if (may_lack_write && !widen(mapping, unit, prot | need)) return Plugged::not_at_all;
  return Plugged::before;
}

// In the last resort each page has a mark of its own; a unit may have been filled before that, and then its pages can be read.
Plugged plug_page(Mapping* mapping, const Fault& fault) {
  // Without marks (the same limits may refuse them) a second thread's fault could move another page over the first one's.
  const bool marks = ensure_marks(mapping);
  const uintptr_t page = mapping->page_address(mapping->page_of(fault.address));
  mapping->by_pages = true;
  if (marks && (has_fill_mark(mapping, page) || (has_fill_mark(mapping, fill_unit(mapping, page).start) && readable(page)))) {
    if (fault.write) mprotect(reinterpret_cast<void*>(page), mapping->page_size(), PROT_READ | PROT_WRITE);
    return Plugged::before;
  }
  if (!plug_from_reserve(mapping, page)) return Plugged::not_at_all;
  return marks ? marked_filled(mapping, mapping->page_of(page)) : Plugged::now;
}

// The rest of an extent that comes in units, so that it costs one fault and not one a unit.
bool plug_other_units(Mapping* mapping, int prot) {
  for (uintptr_t at = mapping->start; at < mapping->end;) {
    const Range unit = fill_unit(mapping, at);
    if (unit.bytes() == 0) return false;  // theirs: what is ours behind it has its own fault
    if (plug_unit(mapping, at, prot, PROT_READ) == Plugged::not_at_all) return false;
    at = unit.end;
  }
  return true;
}

Plugged plug_by_units(Mapping* mapping, const Fault& fault, int prot) {
  if (!ensure_marks(mapping)) return plug_page(mapping, fault);
  const Plugged plugged = plug_unit(mapping, fault.address, prot, fault.need());
  if (plugged == Plugged::not_at_all) return plug_page(mapping, fault);
  const bool at_once = plugged == Plugged::now && mapping->end - mapping->start <= kOnesAtOnce;
  if (at_once && plug_other_units(mapping, prot)) {
    mapping->filled = true;
    mapping->fill_prot = prot;
  }
  return plugged;
}

Plugged plug_extent(Mapping* mapping, const Fault& fault) {
  // A page that came from the reserve stays: a larger fill would wipe what was written to it.
  if (mapping->by_pages) return plug_page(mapping, fault);
  const int prot = PROT_READ | mapping->base_prot() | fault.need();
  const Range unit = fill_unit(mapping, fault.address);
  if (unit.bytes() != mapping->end - mapping->start) return plug_by_units(mapping, fault, prot);
  if (!map_fill(mapping, mapping->start, unit.bytes(), prot)) return plug_page(mapping, fault);
  mapping->filled = true;
  mapping->fill_prot = prot;
  return Plugged::now;
}

Outcome plug_again(Mapping* mapping, const Fault& fault) {
  // Another thread faulted on it too and was first; or the fill does not allow this access yet.
  if ((mapping->fill_prot & fault.need()) != 0) return futile(mapping);
  const int prot = mapping->fill_prot | fault.need();
  if (!widen(mapping, {mapping->start, mapping->end}, prot)) return Outcome::foreign;
  mapping->fill_prot = prot;
  return Outcome::handled;
}

Outcome plug(Mapping* mapping, const Fault& fault, std::atomic<uint64_t>& kind) {
  if (mapping->filled) return plug_again(mapping, fault);
  if (own_range(mapping, fault.address).bytes() == 0) return Outcome::foreign;
  if (mapping->fill == Fill::deadly) return Outcome::foreign;
  // A checked copy is under way. It faults at the byte it has come to, and says so exactly; the fill would let it go on.
  if (mapping->copiers.load() != 0 && mapping->waits_for_copiers.fetch_add(1, std::memory_order_relaxed) < kCopierWaits) {
    syscall(SYS_sched_yield);
    return Outcome::handled;
  }
  mapping->waits_for_copiers.store(0, std::memory_order_relaxed);
  const Plugged plugged = plug_extent(mapping, fault);
  if (plugged == Plugged::not_at_all) return Outcome::foreign;
  if (plugged == Plugged::before) return futile(mapping);
  bump(g_counters.fills);
  if (!mapping->told) tell(mapping, fault, EventKind::fault_revoked, Cause::none);
  mapping->told = true;
  count_fault(mapping, kind);
  return Outcome::handled;
}

// --- live: the backing is gone ------------------------------------------------------------------------------------------------

struct Diagnosis {
  Cause cause;
  bool revoked_by_owner;
  bool try_again;
};

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
  const bool full = can_read && fault.write && file_system_full(object->fd);
  const uint32_t limit = fault.write ? kWriteRetries : kReadRetries;
  if (can_read && !full && may_retry(mapping, fault, limit, kCheckedRetries)) return {Cause::none, false, true};
  if (mapping->page_shift != kPageShift) return {Cause::no_space, false, false};  // no free 2 MiB page
  if (can_read && fault.write) return {Cause::no_space, false, false};            // it is there, but cannot be allocated
  if (file_system_full(object->fd)) return {Cause::no_space, false, false};
  // It comes and goes for ever: its file is truncated and grows.
  if (can_read && object->regular && !object->owned) return {Cause::past_end, false, false};
  // Its file may have grown between the fault and the look at its size, and shrunk between that and the look at the page.
  const bool again = object->regular && may_retry(mapping, fault, kGoneRetries, kCheckedGoneRetries);
  return {Cause::unknown, false, again};
}

// False when it was shut for good before.
bool shut_gate_for(Object* object, Cause cause) {
  State before = object->gate.load();
  do {
    if (before == State::revoked || before == State::closed) return false;
  } while (!object->gate.compare_exchange_weak(before, State::revoked));
  object->revoke_cause.store(cause);
  return true;
}

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
// come again. A guard page takes the page's place, so that nobody reaches its file should that grow back; whoever touches it next
// gets the fill (lost_before).
bool answer_load(const Mapping* mapping, size_t page, const Fault& fault) {
  if (!fault.raw() || fault.write || !g_guards || mapping->page_shift != kPageShift) return false;
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

// The tombstone takes the place of a lost page, so that the object does not show there again when its backing comes back.
bool hide_page(const Mapping* mapping, size_t page) {
  const int prot = prot_of(mark_access(mapping->mark_of(page)), *mapping);
  return map_over(mapping->page_address(page), mapping->page_size(), prot, MAP_SHARED, tombstone_fd(), 0);
}

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
  tell(mapping, fault, EventKind::fault_backing, cause);
  return Outcome::handled;
}

bool lost_has_fill(const Mapping* mapping, size_t page) {
  const bool in_tail = mapping->page_address(page) >= mapping->lost_from.load();
  return (mapping->mark_of(page) & kMarkLostFilled) != 0 || (in_tail && mapping->tail_filled);
}

// The page was lost before: somebody else's fault filled it; or it was lost without a fill, and this access needs one. The fault
// that lost it has been counted and told.
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
  if (outcome == Outcome::handled) tell(mapping, fault, EventKind::fault_backing, diagnosis.cause);
  return outcome;
}

// --- live: the access is not permitted --------------------------------------------------------------------------------------

// A page of the object of which writes reach only this range.
bool map_private_copy(const Mapping* mapping, size_t page, int prot) {
  const Object* object = mapping->object;
  const uintptr_t address = mapping->page_address(page);
  const uint64_t offset = mapping->object_offset_of(page);
  if (!may_be_refused(object)) return map_over(address, mapping->page_size(), prot, MAP_PRIVATE, object->fd, offset);
  do {
    if (map_file_over(address, mapping->page_size(), prot, MAP_PRIVATE | MAP_NORESERVE, object->fd, offset)) return true;
  } while (errno == ENOMEM && drop_ballast(kBallast / 2));
  return false;
}

// A raw write to a read-only page, or any raw access to one without permission, is diverted to a private page so that it
// completes and reaches nobody; the service thread, or the next checked access, puts the object's page back.
bool divert(Mapping* mapping, size_t page, bool readable_page) {
  const uintptr_t address = mapping->page_address(page);
  const int prot = PROT_READ | PROT_WRITE;
  // A page of a private mapping that could be written may be its user's own copy: replacing it would lose it, so it is opened for
  // a moment instead.
  if (mapping->has_own_copies()) return mprotect(reinterpret_cast<void*>(address), mapping->page_size(), prot) == 0;
  if (readable_page && map_private_copy(mapping, page, prot)) return true;
  return map_fill(mapping, address, mapping->page_size(), prot);
}

// Diverts a page, and leaves it to be put back. Its table of marks exists.
bool stray(Mapping* mapping, size_t page, const Fault& fault, bool readable_page, EventKind kind) {
  set_mark(mapping, page, mapping->mark_of(page) | kMarkStray);
  if (page < mapping->stray_first) mapping->stray_first = page;
  if (page > mapping->stray_last) mapping->stray_last = page;
  publish_state(mapping, State::live);  // before the page is diverted: whoever then reads it finds the word changed
  if (!divert(mapping, page, readable_page)) return false;
  count_fault(mapping, g_counters.faults_protection);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  mapping->strayed_at.store(static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec),
                            std::memory_order_relaxed);
  leave_work(mapping);
  tell(mapping, fault, kind, Cause::none);
  return true;
}

Outcome protection_fault(Mapping* mapping, const Fault& fault) {
  const size_t page = mapping->page_of(fault.address);
  if (fault.code != SEGV_ACCERR && !mapped(fault.address)) return Outcome::foreign;  // a hole: somebody unmapped it
  const PageMark mark = mapping->mark_of(page);
  const Cause lost = mapping->lost_cause(page);
  const bool guarded = fault.code != SEGV_ACCERR;  // or was: another thread may have filled it, or mapped another page, since
  if (guarded && lost == Cause::none) return futile(mapping);
  if (lost != Cause::none) {
    if (mapping->fill != Fill::deadly && (guarded || !lost_has_fill(mapping, page))) return lost_before(mapping, fault, lost);
    // A write to the fill of a lost page that was mapped for reading.
    void* at = reinterpret_cast<void*>(mapping->page_address(page));
    return mprotect(at, mapping->page_size(), PROT_READ | PROT_WRITE) == 0 ? futile(mapping) : Outcome::foreign;
  }
  const int prot = prot_of(mark_access(mark), *mapping);
  // Permitted by our records: protect() or a settled page changed it in this moment, or somebody called mprotect(2) on it.
  if (((prot & fault.need()) != 0 && !mapping->trapped) || (mark & kMarkStray) != 0) return futile(mapping);
  if (mapping->fill == Fill::deadly || !ensure_marks(mapping)) return Outcome::foreign;
  if (mapping->trapped) {
    bump(g_counters.accesses_refused);
    mapping->ops->missed(mapping, fault.address, Cause::refused);
  }
  const EventKind kind = mapping->trapped ? EventKind::fault_refused : EventKind::fault_protection;
  return stray(mapping, page, fault, !mapping->trapped && (prot & PROT_READ) != 0, kind) ? Outcome::handled : Outcome::foreign;
}

// --- the decision -----------------------------------------------------------------------------------------------------------

Outcome closed_fault(Mapping* mapping) {
  return mapping->futile.fetch_add(1, std::memory_order_relaxed) < kClosedLimit ? Outcome::handled : Outcome::foreign;
}

// Under the claim.
Outcome settle_claimed(Mapping* mapping, const Fault& fault, const Diagnosis& diagnosis) {
  // The record may have been recycled between the lookup and the claim.
  if (fault.address < mapping->start || fault.address >= mapping->end) return Outcome::handled;
  switch (mapping->state.load(std::memory_order_acquire)) {
    case State::revoked: return plug(mapping, fault, g_counters.faults_revoked);
    case State::suspended: return plug(mapping, fault, g_counters.faults_suspended);
    case State::closed: return closed_fault(mapping);
    case State::live: break;
  }
  return fault.signal == SIGBUS ? backing_fault(mapping, fault, diagnosis) : protection_fault(mapping, fault);
}

Outcome settle(Mapping* mapping, const Fault& fault) {
  Diagnosis diagnosis{Cause::unknown, false, true};  // of a mapping that turns out live only after the claim: look again
  if (fault.signal == SIGBUS && mapping->state.load(std::memory_order_acquire) == State::live)
    diagnosis = diagnose(mapping, fault);
  if (!try_claim(mapping)) {
    bump(g_counters.faults_shared);
    await_claim(mapping);
    return Outcome::handled;  // the instruction is tried again, and faults again if it must
  }
  const Outcome outcome = settle_claimed(mapping, fault, diagnosis);
  release_claim(mapping);
  return outcome;
}

// Signals that a fault of memory raised in this thread: not those sent by kill(2), whose si_addr is junk, nor misaligned
// accesses, nor machine checks in memory that nobody has touched.
bool is_memory_fault(int signal, int code) {
  if (signal == SIGBUS) return code == BUS_ADRERR || code == BUS_MCEERR_AR;
  return code == SEGV_MAPERR || code == SEGV_ACCERR;
}

bool is_register_access(const Mapping* mapping, const Fault& fault) {
  return mapping->trapped && fault.signal == SIGSEGV && fault.code == SEGV_ACCERR &&
         mapping->state.load(std::memory_order_acquire) == State::live;
}

Outcome register_access(Mapping* mapping, const Fault& fault, ReaderScope& scope) {
  switch (mapping->ops->access(mapping, fault.address, *fault.machine, scope)) {
    case Delivery::complete: return Outcome::handled;
    case Delivery::deadly: return Outcome::foreign;
    case Delivery::not_understood: break;
  }
  return settle(mapping, fault);
}

// read_code has come to the end of what can be read.
bool look_at_code(MachineContext& machine) {
  const uintptr_t pad = load_landing_pad(machine.pc());
  if (pad != 0) machine.resume_at(pad, pad_argument({}));
  return pad != 0;
}

Outcome resolve(int signal, const siginfo_t* info, MachineContext machine) {
  // A load of ours from code that only runs: execute-only memory raises this where processors have protection keys.
  if (signal == SIGSEGV && info->si_code == SEGV_PKUERR && look_at_code(machine)) return Outcome::handled;
  if (!is_memory_fault(signal, info->si_code)) return Outcome::foreign;
  const Fault fault{reinterpret_cast<uintptr_t>(info->si_addr), signal, info->si_code, machine.is_write(), &machine};
  ReaderScope scope;
  Mapping* mapping = find_mapping(fault.address);
  const uintptr_t pad = landing_pad(machine.pc());  // whoever's memory it is: a copy's other buffer, or code
  if (pad == 0 && mapping == nullptr) return Outcome::foreign;
  if (pad == 0 && is_register_access(mapping, fault)) return register_access(mapping, fault, scope);
  if (pad == 0) return settle(mapping, fault);
  const bool bus = signal == SIGBUS;
  machine.resume_at(pad, pad_argument({true, fault.address, fault.write, bus, bus && fault.code == BUS_MCEERR_AR}));
  if (mapping != nullptr) bump(g_counters.faults_copy);
  return Outcome::handled;
}

}  // namespace

// --- what core/ declares and the handler needs -------------------------------------------------------------------------------

// It has been executed, which does not say that it can be read: its page may be for execution only, and the kernel takes
// protection keys away from signal handlers.
size_t read_code(uintptr_t pc, uint8_t* code) {
  // By loads that may fault, since asking the kernel first costs as much as a good part of the signal.
  size_t bytes = 0;
  for (unsigned width = 8; width != 0; width /= 2) {
    uint64_t word;
    while (bytes + width <= kLongestInstruction && guarded_load(reinterpret_cast<const void*>(pc + bytes), width, &word)) {
      memcpy(code + bytes, &word, width);
      bytes += width;
    }
  }
  if (bytes != 0) return bytes;
  // Keys do not count for a process that reads another's memory, be it its own.
  const iovec to{code, kLongestInstruction}, from{reinterpret_cast<void*>(pc), kLongestInstruction};
  const long read = syscall(SYS_process_vm_readv, getpid(), &to, 1, &from, 1, 0);
  return read > 0 ? static_cast<size_t>(read) : 0;
}

void tell_access(Mapping* mapping, uintptr_t address, bool write, EventKind kind, Cause cause) {
  count_fault(mapping, kind == EventKind::fault_protection ? g_counters.faults_protection : g_counters.faults_backing);
  tell(mapping, {address, SIGSEGV, SEGV_ACCERR, write, nullptr}, kind, cause);
}

Mapping* find_mapping(uintptr_t address) {
  const TableDirectory* directory = g_table.directory.load();
  if (directory == nullptr || directory->count == 0) return nullptr;
  size_t low = 0, high = directory->count;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    if (directory->items[middle].first <= address) low = middle;
    else high = middle;
  }
  const TableChunk* chunk = directory->items[low].chunk;
  size_t first = 0, last = chunk->count;
  while (last - first > 1) {
    const size_t middle = first + (last - first) / 2;
    if (chunk->entries[middle].start <= address) first = middle;
    else last = middle;
  }
  const TableEntry& entry = chunk->entries[first];
  return address >= entry.start && address < entry.end ? entry.mapping : nullptr;
}

// Unless a writer of a later round was faster.
static void put_word(std::atomic<uint64_t>& word, uint64_t round, uint64_t content) {
  uint64_t before = word.load(std::memory_order_relaxed);
  while (is_later_round(round, before >> kRoundShift)) {
    // Release: a reader that gets the event finds what was published before it.
    if (word.compare_exchange_weak(before, (round << kRoundShift) | (content & kRoundContent), std::memory_order_release,
                                   std::memory_order_relaxed)) {
      return;
    }
  }
}

void push_event(const Event& event) {
  const uint64_t ticket = g_ring_head.fetch_add(1, std::memory_order_acq_rel);
  const uint64_t round = ring_round(ticket);
  RingSlot& slot = g_ring[ticket % kRingSlots];
  put_word(slot.words[0], round,
           static_cast<uint64_t>(event.kind) | (static_cast<uint64_t>(event.cause) << 8) |
               (static_cast<uint64_t>(event.write) << 16) | (static_cast<uint64_t>(event.slot) << 17));
  put_word(slot.words[1], round, event.generation);
  put_word(slot.words[2], round, event.object);
  put_word(slot.words[3], round, event.offset);
}

bool object_revoked_by_owner(const Object* object) {
  struct stat status;
  return object->sealable && fstat(object->fd, &status) == 0 && status.st_size == 0 &&
         (fcntl(object->fd, F_GET_SEALS) & F_SEAL_GROW) != 0;
}

bool ensure_marks(Mapping* mapping) {
  if (mapping->marks.load(std::memory_order_relaxed) != nullptr) return true;
  if (mapping->pages() <= Mapping::kFewPages) {
    mapping->marks.store(mapping->few_marks, std::memory_order_release);
    return true;
  }
  const size_t bytes = round_up(mapping->pages(), kPageSize);
  void* table = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (table == MAP_FAILED) return false;
  mapping->marks.store(static_cast<std::atomic<PageMark>*>(table), std::memory_order_release);
  return true;
}

static char* map_private(size_t bytes, int prot) {
  void* at = mmap(nullptr, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : static_cast<char*>(at);
}

bool drop_ballast(size_t keep) {
  char* ballast = g_ballast.load(std::memory_order_acquire);
  size_t index = g_ballast_used.load(std::memory_order_relaxed);
  do {
    if (ballast == nullptr || index + keep >= kBallast) return false;
  } while (!g_ballast_used.compare_exchange_weak(index, index + 1, std::memory_order_relaxed));
  return munmap(ballast + index * kPageSize, kPageSize) == 0;
}

bool handler_reserve() {
  if (g_reserve.load() != nullptr) return true;
  g_guards = features().guard;
  find_vector_registers();
  guarded_copy_reserve();
  size_t bytes = kReserveBytes;
  char* reserve = map_private(bytes, PROT_READ | PROT_WRITE);
  if (reserve == nullptr) reserve = map_private(bytes = kSmallReserveBytes, PROT_READ | PROT_WRITE);
  char* ballast = map_private(kBallast * kPageSize, PROT_NONE);
  if (reserve == nullptr || ballast == nullptr) return false;
  for (size_t i = 0; i < kBallast; i += 2) mprotect(ballast + i * kPageSize, kPageSize, PROT_READ);
  g_reserve_bytes.store(bytes);
  g_ballast.store(ballast, std::memory_order_release);
  g_reserve.store(reserve, std::memory_order_release);
  return true;
}

void absorb_backing_fault(Mapping* mapping, const AccessFault& fault, uint32_t failures) {
  const RegistryLock lock;  // blocks asynchronous signals while the claim is held
  settle(mapping, {fault.address, SIGBUS, fault.poisoned ? BUS_MCEERR_AR : BUS_ADRERR, fault.write, nullptr, failures});
}

Cause cause_of_missing_page(Mapping* mapping, size_t offset, bool write) {
  return diagnose(mapping, {mapping->start + offset, SIGBUS, BUS_ADRERR, write, nullptr}).cause;
}

void lose_page_of_device(Mapping* mapping, size_t page, Cause cause, uintptr_t address, bool write) {
  const Fault fault{address, SIGBUS, BUS_ADRERR, write, nullptr};
  if (!ensure_marks(mapping)) {
    lose_object(mapping, fault, cause);
    return;
  }
  mark_lost(mapping, page, cause);
  publish_state(mapping, State::live);
  count_fault(mapping, g_counters.faults_backing);
  tell(mapping, fault, EventKind::fault_backing, cause);
  // Not the fill: a checked copy ends at this page, and system calls fail on it.
  if (!hide_page(mapping, page)) lose_object(mapping, fault, cause);
}

void divert_self_fault(Mapping* mapping, uintptr_t address, bool write) {
  const Fault fault{address, SIGBUS, BUS_ADRERR, write, nullptr};
  mapping->self_faulted = true;
  if (ensure_marks(mapping) && stray(mapping, mapping->page_of(address), fault, false, EventKind::fault_self)) return;
  lose_object(mapping, fault, Cause::unknown);
}

extern "C" void revocable_mmap_fault_handler(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  MachineContext machine(context);
  if (resolve(signal, info, machine) == Outcome::foreign) {
    if (const StepHandler* steps = g_step_handler.load(std::memory_order_acquire)) steps->abandon(machine);
    bump(g_counters.foreign);
    chain_signal(signal, info, context, MachineContext::delivered_by_kernel(info, context, __builtin_dwarf_cfa()));
  }
  errno = saved_errno;
}

}  // namespace revocable
