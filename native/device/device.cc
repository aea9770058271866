#include "device/device.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <unordered_map>

#include "base/linux_abi.h"
#include "base/page.h"
#include "core/registry.h"
#include "device/device_vm_ops.h"
#include "device/pager.h"
#include "device/register_port.h"

namespace revocable {
namespace {

struct Devices {
  std::mutex lock;
  std::unordered_map<uint64_t, DeviceRef> all;
  uint64_t next_id = 1;
};

// Never destroyed: the pager's thread outlives static destructors.
Devices& devices() {
  static Devices* instance = new Devices;
  return *instance;
}

// Under the device's lock.
void settle_call(DeviceCall& call, CallResult result) {
  call.result = result;
  call.settled.store(1, std::memory_order_release);  // publishes the result to the caller
  futex_wake_private(&call.settled);
}

void ring(Device& device) {
  std::lock_guard guard(device.ring_lock);
  if (device.ring) device.ring();
}

}  // namespace

Device::Device() : Backing(kDeviceVmOps) {}

DeviceRef device_create(const std::string& name, uint32_t limit_ms, std::function<void()> ring) {
  auto device = std::make_shared<Device>();
  device->name = name;
  device->owner_tid = abi::tid();
  device->limit_ms = limit_ms;
  device->ring = std::move(ring);
  std::lock_guard guard(devices().lock);
  device->id = devices().next_id++;
  devices().all.emplace(device->id, device);
  return device;
}

DeviceRef device_find(uint64_t id) {
  std::lock_guard guard(devices().lock);
  const auto found = devices().all.find(id);
  return found == devices().all.end() ? nullptr : found->second;
}

static bool shut_once(Device& device) {
  // Before the exchange: a caller that learns that another thread has shut it may let its model go.
  std::lock_guard guard(device.lock);
  if (device.removed.exchange(true)) return false;
  for (RegisterPort* port : device.ports) port_shut_of(port, device.id);
  for (auto& [token, call] : device.calls) {
    if (call->result == CallResult::pending) settle_call(*call, CallResult::gone);
  }
  std::erase_if(device.work, [](const Work& work) { return work.kind != WorkKind::expired; });
  return true;
}

bool device_is_shut(Device& device) {
  if (!device.removed.load()) return false;
  // The gates of the regions follow before any thread is answered "removed".
  if (!device.regions_shut.load()) revoke_gates_of(device);
  device.regions_shut.store(true);
  return true;
}

bool device_shut(Device& device) {
  const bool mine = shut_once(device);
  device_is_shut(device);
  return mine;
}

void device_abandon(Device& device) {
  device_shut(device);
  trace_end(device.traces);
  {
    std::lock_guard guard(device.lock);
    device.attended = false;
    device.work.clear();
    while (device.ended != nullptr) {
      const std::unique_ptr<MappingEnd> unreported(device.ended);
      device.ended = unreported->next;
    }
    device.ended_last = &device.ended;
  }
  std::lock_guard guard(device.ring_lock);
  device.ring = nullptr;
}

void device_forget(Device& device) {
  std::lock_guard guard(devices().lock);
  devices().all.erase(device.id);
}

void device_post(Device& device, const Work& work) {
  {
    std::lock_guard guard(device.lock);
    device.work.push_back(work);
  }
  // The owner itself, taking faults: it looks when it has taken them.
  if (abi::tid() != device.owner_tid) ring(device);
}

// Accesses to registers that threads wait for in the fault handler.
static void queue_accesses(Device& device) {
  std::lock_guard guard(device.lock);
  std::vector<TakenAccess> accesses;
  for (RegisterPort* port : device.ports) port_take(port, &accesses);
  // Left by accesses that no thread waits for any more, and that have not been answered.
  std::erase_if(device.combinations, [](const auto& entry) { return !port_is_taken(entry.first); });
  for (const TakenAccess& access : accesses) {
    const uint64_t what = (access.reads ? 1 : 0) | (access.writes ? 2 : 0);
    device.work.push_back({WorkKind::access,
                           access.token,
                           {access.region, access.offset, access.width, what, access.value & 0xffffffff, access.value >> 32,
                            static_cast<uint64_t>(access.thread)}});
    if (access.combines) device.combinations.insert_or_assign(access.token, access.combination);
  }
}

bool device_combine(Device& device, uint64_t token, uint64_t old, uint64_t* value) {
  // Its reader has gone on without it, with the answer that nothing has been written, or the device is gone.
  if (!port_is_taken(token)) return false;
  std::lock_guard guard(device.lock);
  const auto found = device.combinations.find(token);
  return found != device.combinations.end() && found->second.put(found->second.operands.data(), old, value);
}

bool device_answer_access(Device& device, uint64_t token, bool failed, uint64_t value) {
  {
    std::lock_guard guard(device.lock);
    device.combinations.erase(token);
  }
  return port_answer(token, failed, value);
}

std::vector<Work> device_take_work(Device& device, size_t most) {
  queue_accesses(device);
  std::vector<Work> taken;
  bool more;
  {
    std::lock_guard guard(device.lock);
    while (device.ended != nullptr && taken.size() < most) {
      const std::unique_ptr<MappingEnd> end(device.ended);
      device.ended = end->next;
      if (device.ended == nullptr) device.ended_last = &device.ended;
      taken.push_back({WorkKind::mapping_ended, 0, {end->mapping, end->device_region, end->offset, end->length, end->file}});
    }
    while (!device.work.empty() && taken.size() < most) {
      taken.push_back(device.work.front());
      device.work.pop_front();
    }
    more = !device.work.empty() || device.ended != nullptr;
  }
  if (more) ring(device);
  // What was asked for a mapping or device that has gone since is not to be answered: its op does not run.
  const bool removed = device.removed.load();
  std::erase_if(taken, [removed](const Work& work) {
    if (work.kind == WorkKind::call) return removed;
    if (work.kind == WorkKind::access) return removed || !port_is_taken(work.token);
    return (work.kind == WorkKind::fault || work.kind == WorkKind::write_fault) && (removed || !pager_is_asked(work.token));
  });
  return taken;
}

uint64_t device_token() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

std::shared_ptr<DeviceCall> device_call(Device& device, uint64_t token, const std::array<uint64_t, kCallNumbers>& arguments) {
  auto call = std::make_shared<DeviceCall>();
  Work work{WorkKind::call, token, {}};
  std::copy(arguments.begin(), arguments.end(), work.numbers.begin());
  {
    std::lock_guard guard(device.lock);
    if (device.removed.load() || !device.attended) return nullptr;
    device.calls.emplace(token, call);
    device.work.push_back(work);
  }
  ring(device);
  return call;
}

CallResult device_call_wait(const DeviceCall& call, uint64_t limit_ns) {
  const timespec limit{static_cast<time_t>(limit_ns / 1'000'000'000), static_cast<long>(limit_ns % 1'000'000'000)};
  if (call.settled.load(std::memory_order_acquire) == 0) futex_wait_private(&call.settled, 0, &limit);
  return call.settled.load(std::memory_order_acquire) == 0 ? CallResult::pending : call.result;
}

void device_call_end(Device& device, uint64_t token, bool withdraw) {
  std::lock_guard guard(device.lock);
  device.calls.erase(token);
  if (!withdraw) return;
  std::erase_if(device.work, [&](const Work& work) { return work.kind == WorkKind::call && work.token == token; });
}

bool device_answer_call(Device& device, uint64_t token, int errnum, uint64_t value, const std::string& message) {
  std::lock_guard guard(device.lock);
  const auto found = device.calls.find(token);
  if (found == device.calls.end() || found->second->result != CallResult::pending) return false;
  DeviceCall& call = *found->second;
  call.errnum = errnum;
  call.value = value;
  call.message = message;
  settle_call(call, CallResult::done);
  return true;
}

bool device_mapping_begin(Mapping* mapping, uint64_t file) {
  const Object* object = mapping->object;
  auto* device_mapping = new (std::nothrow) DeviceMapping;
  if (device_mapping == nullptr) return false;
  device_mapping->end.reset(new (std::nothrow) MappingEnd);
  void* pages = nullptr;
  if (object->supply != nullptr) {
    pages = mmap(nullptr, round_up(mapping->pages(), kPageSize), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  if (device_mapping->end == nullptr || pages == MAP_FAILED) {
    delete device_mapping;
    return false;
  }
  device_mapping->pages = static_cast<PageProgress*>(pages);
  *device_mapping->end = {nullptr,
                          uint64_t{mapping->generation} * kStatusSlots + mapping->slot,
                          object->device_region,
                          mapping->object_offset,
                          mapping->length,
                          file};
  mapping->device_mapping = device_mapping;
  mapping->supplied = device_mapping->pages != nullptr;
  Device& device = device_of(object);
  std::lock_guard guard(device.lock);
  ++device.open_mappings;
  return true;
}

void device_mapping_ended(Mapping* mapping) {
  DeviceMapping* device_mapping = mapping->device_mapping;
  if (device_mapping == nullptr || device_mapping->end == nullptr) return;
  Device& device = device_of(mapping->object);
  {
    std::lock_guard guard(device.lock);
    --device.open_mappings;
    if (!device.attended) {
      device_mapping->end.reset();
      return;
    }
    MappingEnd* end = device_mapping->end.release();
    *device.ended_last = end;
    device.ended_last = &end->next;
  }
  ring(device);
}

void device_mapping_undo(Mapping* mapping) {
  if (mapping->device_mapping == nullptr) return;
  Device& device = device_of(mapping->object);
  std::lock_guard guard(device.lock);
  --device.open_mappings;
  mapping->device_mapping->end.reset();
}

void device_mapping_free(Mapping* mapping) {
  DeviceMapping* device_mapping = mapping->device_mapping;
  if (device_mapping == nullptr) return;
  if (device_mapping->pages != nullptr) munmap(device_mapping->pages, round_up(mapping->pages(), kPageSize));
  delete device_mapping;
  mapping->device_mapping = nullptr;
}

}  // namespace revocable
