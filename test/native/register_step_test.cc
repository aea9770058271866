// Instructions that reach registers and run by themselves, one step, and what comes in between.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <functional>

#include "core/counters.h"
#include "core/memfd.h"
#include "core/service.h"
#include "register_fixture.h"

#if defined(__x86_64__)

using namespace revocable;

namespace {

// Registers of a byte each that count up by one at every read, as one that is cleared by reading cannot be read twice either.
struct Counting {
  std::atomic<uint8_t> reads[64] = {};
  static uint64_t read(void* context, uint64_t offset, uint32_t width) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < width; ++i) {
      value |= uint64_t{static_cast<Counting*>(context)->reads[offset + i].fetch_add(1) + 1u} << (8 * i);
    }
    return value;
  }
  static void write(void*, uint64_t, uint32_t, uint64_t) {}
  RegisterModel model() { return {read, write, this}; }
};

void copy_bytes(void* to, const void* from, size_t count) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
}

// Somebody else's handler, there before the library's; it makes the access possible.
struct Stranger {
  static inline std::function<void()> repair;
  static inline volatile int calls = 0, number = 0, code = 0;
  static inline void* volatile address = nullptr;
  static void handle(int signal, siginfo_t* info, void*) {
    calls = calls + 1;
    number = info->si_signo == signal ? signal : -1;
    code = info->si_code;
    address = info->si_addr;
    repair();
  }
  static void install(int signal) {
    struct sigaction action {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO;
    sigaction(signal, &action, nullptr);
  }
};

void check_stranger_saw(int signal, int code, const void* address) {
  CHECK_EQ(static_cast<int>(Stranger::calls), 1);
  CHECK_EQ(static_cast<int>(Stranger::number), signal);
  CHECK_EQ(static_cast<int>(Stranger::code), code);
  CHECK(Stranger::address == address);
}

TEST("registers: the other operand's fault reaches a stranger's handler as the kernel told it") {
  Stranger::install(SIGSEGV);
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind);
  char* page = own_range(kPageSize);
  mprotect(page, kPageSize, PROT_READ);
  Stranger::repair = [&] { mprotect(page, kPageSize, PROT_READ | PROT_WRITE); };
  copy_bytes(page + 5, device.at(), 3);
  check_stranger_saw(SIGSEGV, SEGV_ACCERR, page + 5);
  CHECK(page[5] != 0);
}

TEST("registers: the other operand's lost page reaches a stranger's handler as the kernel told it") {
  Stranger::install(SIGBUS);
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind);
  const int fd = memfd("a stranger's");
  void* at = mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  REQUIRE(at != MAP_FAILED);
  char* page = static_cast<char*>(at);
  Stranger::repair = [&] { CHECK_EQ(ftruncate(fd, static_cast<off_t>(kPageSize)), 0); };
  copy_bytes(page + 7, device.at(), 3);
  check_stranger_saw(SIGBUS, BUS_ADRERR, page + 7);
  CHECK(page[7] != 0);
}

TEST("registers: where the trap's handler does not come in time one access is refused, and later ones are made") {
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind, {.fill = Fill::ones});
  service_set_watchdog([] {});  // as where a debugger holds the service thread
  uint8_t byte = 0;
  copy_bytes(&byte, device.at(), 1);
  CHECK_EQ(byte, 0xff);
  CHECK_EQ(g_counters.accesses_refused.load(), 1u);
  service_set_watchdog(handlers_check);
  service_wake();
  REQUIRE(EVENTUALLY(g_trap_handler.load() != kTrapHandlerWanted && settled(device.view)));
  copy_bytes(&byte, device.at(), 1);
  CHECK_EQ(byte, 1);
  CHECK_EQ(g_counters.accesses_refused.load(), 1u);
}

TEST("registers: a fork's child that would need the trap's handler does without") {
  Counting counting;
  const RegisterModel behind = counting.model();
  const RegisterDevice device(&behind, {.fill = Fill::ones});
  CHECK_EXITED(check::run_in_child([&] {
    uint8_t byte = 0;
    copy_bytes(&byte, device.at(), 1);
    CHECK_EQ(byte, 0xff);
    CHECK_EQ(g_trap_handler.load(), static_cast<uint32_t>(kTrapHandlerRefused));
  }));
  uint8_t byte = 0;
  copy_bytes(&byte, device.at(), 1);
  CHECK_EQ(byte, 1);
}

}  // namespace

#endif
