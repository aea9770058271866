#include "device/device_vm_ops.h"

#include "device/device.h"
#include "device/pager.h"
#include "device/register_port.h"
#include "device/register_trap.h"

namespace revocable {
namespace {

void shut(Object* object) { bus_shut(object->bus.load()); }

void open(Object* object) { bus_open(object->bus.load()); }

Failure put_back(Region* region, size_t page, int prot) {
  const PageProgress before = pager_progress(region, page);
  const Failure failure = pager_arm(region, region->page_address(page), region->page_size(), prot);
  if (!failure) pager_put_back(region, page, before);
  return failure;
}

void withdraw(Region* region, size_t first_page, size_t pages) {
  const bool live = region->state.load(std::memory_order_relaxed) == State::live;
  if (live) pager_withdraw(region, first_page, pages);
  else pager_let_go(region);
}

void ended(Region* region, bool mapped) {
  if (!mapped) return device_mapping_undo(region);
  pager_let_go(region);
  device_mapping_ended(region);
}

}  // namespace

constexpr VmOps kDeviceVmOps{
    .shut = shut,
    .open = open,
    .begin = device_mapping_begin,
    .arm = pager_arm,
    .put_back = put_back,
    .withdraw = withdraw,
    .forget = pager_forget,
    .ended = ended,
    .recycled = device_mapping_free,
    .access = deliver_access,
    .missed = note_raw_failure,
};

}  // namespace revocable
