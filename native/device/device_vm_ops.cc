#include "device/device_vm_ops.h"

#include "device/device.h"
#include "device/pager.h"
#include "device/register_port.h"
#include "device/register_trap.h"

namespace revocable {
namespace {

void shut(Object* object) { port_shut(object->port.load()); }

void open(Object* object) { port_open(object->port.load()); }

Failure put_back(Mapping* mapping, size_t page, int prot) {
  const PageProgress before = pager_progress(mapping, page);
  const Failure failure = pager_arm(mapping, mapping->page_address(page), mapping->page_size(), prot);
  if (!failure) pager_put_back(mapping, page, before);
  return failure;
}

void withdraw(Mapping* mapping, size_t first_page, size_t pages) {
  const bool live = mapping->state.load(std::memory_order_relaxed) == State::live;
  if (live) pager_withdraw(mapping, first_page, pages);
  else pager_let_go(mapping);
}

void ended(Mapping* mapping, bool mapped) {
  if (!mapped) return device_mapping_undo(mapping);
  pager_let_go(mapping);
  device_mapping_ended(mapping);
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
