#include "device/pager.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/counters.h"
#include "base/linux_abi.h"
#include "base/page.h"
#include "base/spin.h"
#include "base/thread.h"
#include "core/mapping.h"
#include "core/mapping_pages.h"
#include "core/mapping_table.h"
#include "core/registry.h"
#include "core/reserve.h"
#include "device/device.h"
#include "device/page_supply.h"
#include "device/userfault.h"
#include "fault/handler.h"

namespace revocable {
namespace {

// What the owner has been asked, and has not answered.
struct Request {
  DeviceRef device;
  uint32_t slot;
  uint32_t generation;
  size_t page;
  uintptr_t address;  // of the touch, rounded to its page
  bool write;
  bool write_fault;  // the page is there, and is to be written to for the first time
  int64_t deadline_ms;
};

struct Pager {
  std::mutex start_lock;
  bool started = false;

  int bell = -1;            // an eventfd that wakes the thread
  char* scratch = nullptr;  // of the thread: the pages that it supplies at a time

  std::mutex lock;  // a leaf
  std::unordered_map<uint64_t, Request> asked;
  int64_t wakes_at_ms = INT64_MAX;  // when the thread looks again whose time is up, at the latest
  std::vector<std::function<void()>> barriers;
};

// Never destroyed: the thread outlives static destructors.
Pager& pager() {
  static Pager* instance = new Pager;
  return *instance;
}

int64_t now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// --- one page, under the claim ------------------------------------------------------------------------------------------------

bool serves(const Mapping* mapping, uintptr_t address) {
  return address >= mapping->start && address < mapping->end && mapping->device_mapping != nullptr &&
         mapping->device_mapping->pages != nullptr && mapping->state.load(std::memory_order_relaxed) == State::live;
}

bool is_diverted(const Mapping* mapping, size_t page) { return (mapping->mark_of(page) & kMarkStray) != 0; }

PageProgress& progress(const Mapping* mapping, size_t page) { return mapping->device_mapping->pages[page]; }

bool asks_before_write(const Mapping* mapping) { return mapping->object->supply->ask_before_write; }

void wake_page(const Mapping* mapping, size_t page) { userfault_wake(mapping->page_address(page), kPageSize); }

void supplied(const Mapping* mapping, size_t first, size_t pages) {
  const PageProgress now = asks_before_write(mapping) ? PageProgress::supplied : PageProgress::writable;
  for (size_t page = first; page < first + pages; ++page) progress(mapping, page) = now;
  g_counters.pages_supplied.fetch_add(pages, std::memory_order_relaxed);
}

// The object has the page already: another mapping, or the device itself, brought it.
void map_present(const Mapping* mapping, size_t page) {
  const int error = userfault_continue(mapping->page_address(page), kPageSize, asks_before_write(mapping));
  if (error == 0) return supplied(mapping, page, 1);
  // EEXIST: mapped already, and who waits has not looked since. EFAULT: gone again; the next touch asks anew. Else the range is
  // not registered any more.
  if (error != EEXIST) progress(mapping, page) = PageProgress::untouched;
  wake_page(mapping, page);
}

// New pages with this content, as many as are untouched.
void place(Mapping* mapping, size_t page, size_t pages, const void* content) {
  size_t copied = 0;
  const int error =
      userfault_copy(mapping->page_address(page), content, pages << kPageShift, asks_before_write(mapping), &copied);
  supplied(mapping, page, copied >> kPageShift);
  if (copied != 0) return;  // what was to come around it has its own fault
  if (error == EEXIST) return map_present(mapping, page);
  if (error == ENOENT && pages > 1) return place(mapping, page, 1, content);  // an mprotect(2) of other code divides them
  progress(mapping, page) = PageProgress::untouched;
  if (error == ENOMEM || error == ENOSPC) {
    lose_page_of_device(mapping, page, Cause::no_space, mapping->page_address(page), false);
  }
  wake_page(mapping, page);
}

// How many pages from `page` on may be brought with it. The kernel takes only what is one piece of its mappings: pages that are
// protected otherwise, lost or diverted are none with their neighbours.
size_t untouched_run(const Mapping* mapping, size_t page, size_t most) {
  const size_t end = std::min({page + most, mapping->pages(), page + kMostAround});
  const PageMark mark = mapping->mark_of(page);
  size_t next = page + 1;
  while (next < end && progress(mapping, next) == PageProgress::untouched && mapping->mark_of(next) == mark) ++next;
  // They show consecutive pages of the object only where remap has not rearranged them.
  return mapping->rearranged.load(std::memory_order_relaxed) != nullptr ? 1 : next - page;
}

// --- pages supplied without asking: on the pager's thread ---------------------------------------------------------------------

void supply_natively(Mapping* mapping, size_t page) {
  const Supply& supply = *mapping->object->supply;
  const size_t pages = supply.around == 1 ? 1 : untouched_run(mapping, page, supply.around);
  place(mapping, page, pages, content_of(supply, mapping->object_offset_of(page), pages, pager().scratch));
}

// --- asking ---------------------------------------------------------------------------------------------------------------

void ask(Mapping* mapping, size_t page, uint64_t flags, uint32_t tid) {
  const DeviceRef device = std::static_pointer_cast<Device>(mapping->object->backing);
  const bool write_fault = (flags & UFFD_PAGEFAULT_FLAG_WP) != 0;
  const bool write = (flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0;
  const uint64_t token = device_token();
  const int64_t deadline = now_ms() + device->limit_ms;
  bool overslept;
  {
    std::lock_guard guard(pager().lock);
    pager().asked[token] = {device,      mapping->slot, mapping->generation, page, mapping->page_address(page), write,
                            write_fault, deadline};
    overslept = deadline < pager().wakes_at_ms;
  }
  if (overslept) eventfd_write(pager().bell, 1);
  progress(mapping, page) = write_fault ? PageProgress::write_asked : PageProgress::asked;
  bump(g_counters.pages_asked);
  if (const PageSource* source = mapping->object->supply->source.get())
    return source->ask({token, mapping->object_offset_of(page), write || write_fault, write_fault});
  const uint64_t mapping_id = uint64_t{mapping->generation} * kStatusSlots + mapping->slot;
  const bool present = (flags & abi::kUffdPagefaultFlagMinor) != 0;
  device_post(*device, {write_fault ? WorkKind::write_fault : WorkKind::fault,
                        token,
                        {mapping_id, mapping->object->device_region, page, mapping->object_offset_of(page), tid,
                         (write ? 1u : 0u) | (present ? 2u : 0u)}});
}

// Whether the thread would have to supply the page itself.
bool is_owner(const Mapping* mapping, uint32_t tid) {
  const Supply& supply = *mapping->object->supply;
  if (supply.kind == Supply::Kind::elsewhere && !supply.owner_serves) return false;
  return static_cast<int>(tid) == device_of(mapping->object).owner_tid;
}

bool is_waited_for(PageProgress now) { return now == PageProgress::asked || now == PageProgress::write_asked; }

// The thread that would have to answer has touched the page itself. Its access completes with the fill, and says so. Who else
// waits for the page goes on with it, as the kernel cannot wake one of them alone, and looks again. What has been asked stays
// asked, with its limit: an op that touches its own page would else be called for it for ever.
void refuse_self(Mapping* mapping, size_t page, bool write) {
  if (!is_waited_for(progress(mapping, page))) progress(mapping, page) = PageProgress::untouched;
  mapping->device_mapping->self_faults.fetch_add(1);
  bump(g_counters.self_faults);
  divert_self_fault(mapping, mapping->page_address(page), write);
  wake_page(mapping, page);
}

void first_touch(Mapping* mapping, size_t page, uint64_t flags, uint32_t tid) {
  const Supply& supply = *mapping->object->supply;
  if (supply.kind == Supply::Kind::ask || supply.kind == Supply::Kind::elsewhere) {
    if (is_owner(mapping, tid)) refuse_self(mapping, page, (flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0);
    else ask(mapping, page, flags, tid);
  } else if ((flags & abi::kUffdPagefaultFlagMinor) != 0) {
    map_present(mapping, page);
  } else {
    supply_natively(mapping, page);
  }
}

void first_write(Mapping* mapping, size_t page, uint64_t flags, uint32_t tid) {
  if (!asks_before_write(mapping)) {
    userfault_allow_write(mapping->page_address(page), kPageSize);
  } else if (is_owner(mapping, tid)) {
    refuse_self(mapping, page, true);
  } else {
    ask(mapping, page, flags, tid);
  }
}

// --- the faults -------------------------------------------------------------------------------------------------------------

void settle_fault(Mapping* mapping, size_t page, uint64_t flags, uint32_t tid) {
  // An old message: something else has taken the page's place since.
  if (is_diverted(mapping, page) || mapping->lost_cause(page) != Cause::none) return wake_page(mapping, page);
  const bool write_fault = (flags & UFFD_PAGEFAULT_FLAG_WP) != 0;
  switch (progress(mapping, page)) {
    case PageProgress::untouched: return first_touch(mapping, page, flags, tid);
    case PageProgress::asked:
    case PageProgress::write_asked:  // another thread waits for it too: the answer wakes both
      if (is_owner(mapping, tid)) refuse_self(mapping, page, (flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0);
      return;
    case PageProgress::supplied:
      if (write_fault) return first_write(mapping, page, flags, tid);
      return map_present(mapping, page);  // an old message, or the kernel has reclaimed the page
    case PageProgress::writable:
      if (write_fault) {
        userfault_allow_write(mapping->page_address(page), kPageSize);
        return;
      }
      return map_present(mapping, page);
  }
}

void on_fault(uintptr_t address, uint64_t flags, uint32_t tid) {
  const ReaderScope scope;
  Mapping* mapping = find_mapping(address);
  if (mapping != nullptr) {
    const Claim claim(mapping);  // without the registry lock: see there
    if (serves(mapping, address)) return settle_fault(mapping, mapping->page_of(address), flags, tid);
  }
  // It has been closed, revoked or replaced since: who waits looks again what is there.
  userfault_wake(round_down(address, kPageSize), kPageSize);
}

// --- answers and limits -----------------------------------------------------------------------------------------------------

bool take_request(uint64_t token, Request* request) {
  std::lock_guard guard(pager().lock);
  const auto found = pager().asked.find(token);
  if (found == pager().asked.end()) return false;
  *request = std::move(found->second);
  pager().asked.erase(found);
  return true;
}

void settle_content(Mapping* mapping, size_t page, const Answer& answer) {
  const size_t wanted = std::max<size_t>(round_up(answer.bytes, kPageSize) >> kPageShift, 1);
  const size_t pages = untouched_run(mapping, page, wanted);
  const auto* content = static_cast<const char*>(answer.content);
  place(mapping, page, pages, content);
}

void settle_refusal(Mapping* mapping, const Request& request, Cause cause) {
  progress(mapping, request.page) = PageProgress::untouched;
  lose_page_of_device(mapping, request.page, cause, request.address, request.write);
  wake_page(mapping, request.page);
}

void forbid_writes(Mapping* mapping, size_t page) {
  if (!ensure_marks(mapping)) return;
  const PageMark mark = mapping->mark_of(page);
  set_mark(mapping, page, static_cast<PageMark>((mark & ~kMarkAccessMask) | static_cast<PageMark>(Access::read)));
  publish_state(mapping, State::live, /*only_access=*/true);
  mprotect(reinterpret_cast<void*>(mapping->page_address(page)), kPageSize, PROT_READ);
}

// A first write that is not allowed: the page becomes read-only, so the writer's access is diverted and reported as any forbidden
// write, and readers go on.
void settle_write(Mapping* mapping, const Request& request, bool allowed) {
  progress(mapping, request.page) = allowed ? PageProgress::writable : PageProgress::supplied;
  if (allowed && userfault_allow_write(request.address, kPageSize) == 0) return;
  if (!allowed) forbid_writes(mapping, request.page);
  wake_page(mapping, request.page);
}

// Does `settle(mapping)` when the request's page still waits for its answer.
template <typename Settle>
bool with_waiting_page(const Request& request, Settle settle) {
  RegistryLock lock;
  Mapping* mapping = mapping_at_slot(request.slot);
  if (mapping == nullptr || mapping->generation != request.generation) return false;
  const Claim claim(mapping);
  if (!serves(mapping, request.address)) return false;
  settle_strays_claimed(mapping);  // its owner may have touched it: see refuse_self
  const PageProgress expected = request.write_fault ? PageProgress::write_asked : PageProgress::asked;
  if (progress(mapping, request.page) != expected) return false;
  if (is_diverted(mapping, request.page)) {
    // The kernel has no mapping to give to put it back with. No thread waits there: the next touch asks anew.
    progress(mapping, request.page) = PageProgress::untouched;
    return false;
  }
  settle(mapping);
  return true;
}

void settle_answer(Mapping* mapping, const Request& request, const Answer& answer) {
  const bool good =
      answer.kind == Answer::Kind::content || answer.kind == Answer::Kind::as_it_is || answer.kind == Answer::Kind::present;
  if (request.write_fault) return settle_write(mapping, request, good);
  if (answer.kind == Answer::Kind::refused) return settle_refusal(mapping, request, Cause::refused);
  if (answer.kind == Answer::Kind::failed) return settle_refusal(mapping, request, Cause::failed);
  if (answer.kind == Answer::Kind::no_answer) return settle_refusal(mapping, request, Cause::no_answer);
  if (answer.kind == Answer::Kind::present) return map_present(mapping, request.page);
  settle_content(mapping, request.page, answer);
}

// Takes out those whose time is up, and says when to look again. That is not put off when there is nothing left to look at: each
// page that an owner asks for in its own thread would then have to wake this one.
int64_t take_expired(std::vector<std::pair<uint64_t, Request>>* expired) {
  const int64_t now = now_ms();
  std::lock_guard guard(pager().lock);
  int64_t& next = pager().wakes_at_ms;
  if (next <= now) next = INT64_MAX;
  for (auto at = pager().asked.begin(); at != pager().asked.end();) {
    if (at->second.deadline_ms <= now) {
      expired->emplace_back(at->first, std::move(at->second));
      at = pager().asked.erase(at);
      continue;
    }
    next = std::min(next, at->second.deadline_ms);
    ++at;
  }
  return next;
}

// Returns how long poll may wait.
int expire() {
  std::vector<std::pair<uint64_t, Request>> expired;
  const int64_t next = take_expired(&expired);
  for (const auto& each : expired) {
    const uint64_t token = each.first;
    const Request& request = each.second;  // (names of their own: clang 14 captures no structured binding)
    with_waiting_page(request, [&](Mapping* mapping) {
      if (request.write_fault) settle_write(mapping, request, false);
      else settle_refusal(mapping, request, Cause::no_answer);
    });
    device_post(*request.device, {WorkKind::expired, token, {}});
  }
  return next == INT64_MAX ? -1 : static_cast<int>(std::clamp<int64_t>(next - now_ms(), 0, INT_MAX - 1)) + 1;
}

// --- answers of other processes ---------------------------------------------------------------------------------------------

Answer answer_of(int error) {
  switch (error) {
    case 0: return {.kind = Answer::Kind::present};
    case EFAULT: return {.kind = Answer::Kind::refused};
    case ETIMEDOUT: return {.kind = Answer::Kind::no_answer};
    default: return {.kind = Answer::Kind::failed};
  }
}

void on_answer(uint64_t token, int error) { pager_answer(token, answer_of(error)); }

// How long to look for the next fault before sleeping.
constexpr uint32_t kSpinUs = 20;

// How many owners' event loops wait for faults now.
std::atomic<int> g_attentive{0};
// For as long such a loop needs to wake up, at most.
constexpr timespec kCourtesy{0, 100'000};

// Waits for faults, or until it is time to look whose time is up; bytes of messages. After a page that was supplied here the
// toucher is running, and often touches the next one. While the owner has been asked for one it needs the processor more.
ssize_t next_faults(uffd_msg* messages, size_t bytes, bool supplied_one, bool* called) {
  static SpinHabit habit;
  const int limit = expire();
  ssize_t got = -1;
  const auto come = [&] { return (got = read(userfault_fd(), messages, bytes)) > 0; };
  if (supplied_one && limit < 0 && habit.spin(kSpinUs, come)) return got;
  pollfd ready[] = {{userfault_fd(), POLLIN, 0}, {pager().bell, POLLIN, 0}, {page_sources_fd(), POLLIN, 0}};
  poll(ready, 3, limit);
  eventfd_t rung;
  if (ready[2].revents != 0) page_sources_take(on_answer);
  *called = ready[1].revents != 0;
  if (*called) eventfd_read(pager().bell, &rung);
  else if (g_attentive.load(std::memory_order_relaxed) > 0) nanosleep(&kCourtesy, nullptr);
  return read(userfault_fd(), messages, bytes);
}

void take_faults(const uffd_msg* messages, ssize_t bytes) {
  for (ssize_t i = 0; bytes > 0 && i < bytes / static_cast<ssize_t>(sizeof messages[0]); ++i) {
    if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
    const auto& fault = messages[i].arg.pagefault;
    on_fault(fault.address, fault.flags, fault.feat.ptid);
  }
}

void pass_barriers(uffd_msg* messages, size_t bytes) {
  std::vector<std::function<void()>> passed;
  {
    std::lock_guard guard(pager().lock);
    passed.swap(pager().barriers);
  }
  if (passed.empty()) return;
  for (ssize_t got; (got = read(userfault_fd(), messages, bytes)) > 0;) take_faults(messages, got);
  for (const auto& done : passed) done();
}

void serve() {
  uffd_msg messages[64];
  uint64_t supplied_before = 0;
  for (;;) {
    const uint64_t supplied_now = g_counters.pages_supplied.load(std::memory_order_relaxed);
    bool called = false;
    const ssize_t got = next_faults(messages, sizeof messages, supplied_now != supplied_before, &called);
    supplied_before = supplied_now;
    take_faults(messages, got);
    if (called) pass_barriers(messages, sizeof messages);
  }
}

void* thread_main(void*) {
  pthread_setname_np(pthread_self(), "revocable-pager");
  serve();
  return nullptr;
}

// Drops the requests that `drop` says so of.
template <typename Drop>
void drop_requests(Drop drop) {
  std::lock_guard guard(pager().lock);
  std::erase_if(pager().asked, [&](const auto& item) { return drop(item.second); });
}

void drop_requests_of(const Mapping* mapping, size_t first, size_t pages) {
  drop_requests([&](const Request& r) {
    return r.slot == mapping->slot && r.generation == mapping->generation && r.page >= first && r.page - first < pages;
  });
}

bool has_pages(const Mapping* mapping) { return mapping->device_mapping != nullptr && mapping->device_mapping->pages != nullptr; }

// Whether `tid` reads the fill in the page's place.
bool owner_lacks(const Mapping* mapping, size_t page, uint32_t tid) {
  if (is_diverted(mapping, page)) return true;
  const PageProgress now = progress(mapping, page);
  const Supply::Kind kind = mapping->object->supply->kind;
  return (kind == Supply::Kind::ask || kind == Supply::Kind::elsewhere) && is_owner(mapping, tid) &&
         (now == PageProgress::untouched || now == PageProgress::asked);
}

}  // namespace

static Failure take_what_the_thread_needs(Pager& p) {
  p.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (p.bell < 0) return Failure::from_errno("eventfd");
  const Failure failure = page_sources_open();
  if (failure) return failure;
  void* pages =
      mmap(nullptr, kMostAround << kPageShift, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) return Failure::from_errno("mmap");
  p.scratch = static_cast<char*>(pages);
  return {};
}

static void give_back(Pager& p) {
  if (p.bell >= 0) close(p.bell);
  if (p.scratch != nullptr) munmap(p.scratch, kMostAround << kPageShift);
  p.bell = -1;
  p.scratch = nullptr;
  userfault_close();
}

Failure pager_start(bool write_faults) {
  Pager& p = pager();
  std::lock_guard guard(p.start_lock);
  Failure failure = userfault_open();
  if (!failure && write_faults && !userfault_write_protects()) failure = {ENOTSUP, "userfaultfd"};
  if (p.started) return failure;
  // A failure may be of this moment: the next device tries again.
  if (!failure) failure = take_what_the_thread_needs(p);
  if (!failure) failure = start_thread(thread_main, nullptr, size_t{256} << 10);
  if (failure) give_back(p);
  p.started = !failure;
  return failure;
}

void pager_take_faults() {
  uffd_msg messages[16];
  const SignalsBlocked blocked;
  take_faults(messages, read(userfault_fd(), messages, sizeof messages));
}

void pager_barrier(std::function<void()> done) {
  const bool started = [] {
    std::lock_guard guard(pager().start_lock);
    return pager().started;
  }();
  if (!started) return done();
  {
    std::lock_guard guard(pager().lock);
    pager().barriers.push_back(std::move(done));
  }
  eventfd_write(pager().bell, 1);
}

void pager_attended(bool now) { g_attentive.fetch_add(now ? 1 : -1, std::memory_order_relaxed); }

Failure pager_arm(Mapping* mapping, uintptr_t start, size_t bytes, int prot) {
  const Failure failure = userfault_register(start, bytes, asks_before_write(mapping));
  if (failure) return failure;
  const size_t first = mapping->page_of(start);
  for (size_t page = first; page < first + (bytes >> kPageShift); ++page) {
    // Writing where nothing changes would take memory for a table that is sparse.
    if (progress(mapping, page) != PageProgress::untouched) progress(mapping, page) = PageProgress::untouched;
  }
  if (mprotect(reinterpret_cast<void*>(start), bytes, prot) != 0) return Failure::from_errno("mprotect");
  return {};
}

PageProgress pager_progress(const Mapping* mapping, size_t page) {
  return has_pages(mapping) ? progress(mapping, page) : PageProgress::untouched;
}

void pager_put_back(Mapping* mapping, size_t page, PageProgress before) {
  if (before == PageProgress::asked) progress(mapping, page) = PageProgress::asked;
  if (before != PageProgress::write_asked) return;
  // There to be read, as it was.
  const bool there = userfault_continue(mapping->page_address(page), kPageSize, true) == 0;
  if (there) progress(mapping, page) = PageProgress::write_asked;
  else drop_requests_of(mapping, page, 1);
}

void pager_withdraw(Mapping* mapping, size_t first_page, size_t pages) {
  if (!has_pages(mapping)) return;
  drop_requests_of(mapping, first_page, pages);
  for (size_t page = first_page; page < first_page + pages; ++page) {
    PageProgress& now = progress(mapping, page);
    if (!is_waited_for(now)) continue;
    now = now == PageProgress::asked ? PageProgress::untouched : PageProgress::supplied;
    wake_page(mapping, page);
  }
}

bool pager_was_read(uintptr_t address, size_t bytes) {
  const ReaderScope scope;
  for (uintptr_t at = address; at < address + bytes; at = round_down(at, kPageSize) + kPageSize) {
    Mapping* mapping = find_mapping(at);
    if (mapping == nullptr) continue;  // as nearly always
    const SignalsBlocked blocked;
    const Claim claim(mapping);
    if (serves(mapping, at) && owner_lacks(mapping, mapping->page_of(at), static_cast<uint32_t>(abi::tid()))) return false;
  }
  return true;
}

void pager_let_go(Mapping* mapping) {
  if (!has_pages(mapping)) return;
  drop_requests_of(mapping, 0, mapping->pages());
  userfault_wake(mapping->start, mapping->end - mapping->start);
}

void pager_forget(Mapping* mapping, size_t first_page, size_t pages) {
  if (!has_pages(mapping)) return;
  for (size_t page = first_page; page < first_page + pages; ++page) {
    PageProgress& now = progress(mapping, page);
    if (now == PageProgress::asked) continue;
    if (now == PageProgress::write_asked) {
      drop_requests_of(mapping, page, 1);
      wake_page(mapping, page);  // it finds no page, and asks for one
    }
    now = PageProgress::untouched;
  }
}

bool pager_answer(uint64_t token, const Answer& answer) {
  Request request;
  // Also what comes between the gate of a removal and the revocation, which wakes who waits.
  const bool settled = take_request(token, &request) && !request.device->removed.load() &&
                       with_waiting_page(request, [&](Mapping* mapping) { settle_answer(mapping, request, answer); });
  if (!settled) bump(g_counters.answers_discarded);
  return settled;
}

bool pager_is_asked(uint64_t token) {
  std::lock_guard guard(pager().lock);
  return pager().asked.contains(token);
}

void pager_drop_device(const Device& device) {
  drop_requests([&](const Request& r) { return r.device.get() == &device; });
}

}  // namespace revocable
