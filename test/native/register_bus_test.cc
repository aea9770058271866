// The way of accesses to registers, where several use it at once: who shuts it, who forks, whose slot it is.
#include <unistd.h>

#include <atomic>
#include <functional>

#include "register_fixture.h"

#if defined(__x86_64__)

using namespace revocable;

namespace {

TEST("registers: a second removal, too, returns only when the model is not running") {
  struct Held {
    std::atomic<bool> inside{false}, let_go{false};
    static uint64_t read(void* context, uint64_t, uint32_t) {
      auto* self = static_cast<Held*>(context);
      self->inside = true;
      while (!self->let_go) usleep(100);
      return 1;
    }
    static void write(void*, uint64_t, uint32_t, uint64_t) {}
  };
  Held held;
  const RegisterModel behind{Held::read, Held::write, &held};
  const RegisterDevice device(&behind);
  Threads threads;
  const Finally ends([&] { held.let_go = true; });
  threads.add([&] { device.view.load(); });
  REQUIRE(EVENTUALLY(held.inside.load()));
  threads.add([&] { CHECK(device_shut(*device.device)); });
  REQUIRE(EVENTUALLY(device.device->removed.load()));
  threads.add([&] {
    CHECK(!device_shut(*device.device));
    CHECK(held.let_go);
  });
  usleep(50'000);  // in which a second one that does not wait has returned
}

}  // namespace

#endif
