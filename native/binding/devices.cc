// Simulated devices: their regions, what their owner is to do, and calls of their ops from other threads. Numbers that describe
// work or calls travel in Float64Arrays: see src/native/enums.ts.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/linux_abi.h"
#include "base/page.h"
#include "binding/devices.h"
#include "binding/env_state.h"
#include "binding/exports.h"
#include "binding/layouts.h"
#include "core/mapping.h"
#include "core/mapping_pages.h"
#include "core/mapping_table.h"
#include "device/device.h"
#include "device/page_source.h"
#include "device/pager.h"
#include "device/register_file.h"
#include "device/register_port.h"
#include "device/register_trap.h"
#include "fault/guarded_copy.h"

namespace revocable::binding {
namespace {

// deviceCreate(name, limitMs): id. Its owner is the calling thread.
Napi::Value device_create_js(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  const std::string name = info[0].As<Napi::String>();
  const DeviceRef device = device_create(name, to_u32(info[1]), [box = state.mailbox] { box->ring(); });
  state.devices.push_back(device);
  return Napi::Number::New(info.Env(), static_cast<double>(device->id));
}

// pagerStart(writeFaults, asked): null | Failure. `asked`: this thread will be asked for pages.
Napi::Value pager_start_js(const Napi::CallbackInfo& info) {
  const Failure failure = pager_start(to_bool(info[0]));
  if (!failure && to_bool(info[1])) EnvState::of(info.Env()).watches->faults();
  return to_js(info.Env(), failure);
}

// A copy of what the user has given: the view may be of memory that goes away. Bytes behind `most` are for no page.
Failure take_bytes(const Napi::Uint8Array& view, size_t most, Bytes* bytes) {
  const size_t size = std::min<size_t>(view.ByteLength(), most);
  *bytes = Bytes(size);
  if (bytes->size() != size) return {ENOMEM, "copy"};
  return !guarded_copy(bytes->data(), view.Data(), size).fault.any ? Failure{} : Failure{EFAULT, "copy"};
}

// Where the pages of a region come from. `region` is a RegionOrder of src/native/device-functions.ts.
Supply supply_of(const Napi::Object& region) {
  enum { kAsk, kZeros, kConstant, kImage, kOffsets, kRandom, kElsewhere };
  Supply supply;
  supply.around = to_u32(region["around"]);
  supply.ask_before_write = to_bool(region["askBeforeWrite"]);
  supply.seed = to_u64(region["seed"]);
  supply.owner_serves = to_bool(region["ownerServes"]);
  switch (to_u32(region["supply"])) {
    case kAsk: supply.kind = Supply::Kind::ask; break;
    case kZeros: supply.kind = Supply::Kind::zeros; break;
    case kConstant: supply.kind = Supply::Kind::constant; break;
    case kImage: supply.kind = Supply::Kind::image; break;
    case kOffsets: supply.kind = Supply::Kind::model, supply.model = model_offsets; break;
    case kRandom: supply.kind = Supply::Kind::model, supply.model = model_random; break;
    case kElsewhere: supply.kind = Supply::Kind::elsewhere; break;
    default: abort();  // not what TypeScript gives
  }
  return supply;
}

// Duplicates the socket.
Failure open_source(int socket, std::shared_ptr<PageSource>* source) {
  const int copy = fcntl(socket, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return Failure::from_errno("fcntl");
  *source = std::make_shared<PageSource>(copy);
  return page_source_add(*source);
}

// The model that an addon, or registerFile below, has made.
const RegisterModel* model_of(const Napi::Value& value) {
  return value.IsExternal() ? value.As<Napi::External<RegisterModel>>().Data() : nullptr;
}

// isRegisterModel(value)
Napi::Value is_register_model(const Napi::CallbackInfo& info) {
  constexpr napi_type_tag kTag = REVOCABLE_MMAP_REGISTER_MODEL_TAG;
  bool is = false;
  if (info[0].IsExternal()) napi_check_object_type_tag(info.Env(), info[0], &kTag, &is);
  return Napi::Boolean::New(info.Env(), is);
}

Failure begin_registers(EnvState& state, Object* object, const ObjectOptions& options, const RegisterModel* model) {
  const DeviceRef device = std::static_pointer_cast<Device>(options.backing);
  if (model != nullptr) state.shut_before_models(device);
  int bell = -1;
  const Failure failure = state.watches->registers(&bell);
  if (failure) return failure;
  port_begin(object, {.model = model,
                      .device = device.get(),
                      .region = options.device_region,
                      .bell = bell,
                      .trapped = register_trap_reserve()});
  std::lock_guard guard(device->lock);
  device->ports.push_back(object->port.load());
  return {};
}

// deviceRegion(deviceId, region): object id | Failure
Napi::Value device_region(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto region = info[1].As<Napi::Object>();
  const std::string name = region.Get("name").As<Napi::String>();
  ObjectOptions options{.name = name.c_str(),
                        .backing = device_find(to_u64(info[0])),
                        .device_region = to_u32(region["index"]),
                        .registers = to_bool(region["registers"])};
  const uint64_t size = to_u64(region["size"]);
  const int descriptor = region.Get("descriptor").As<Napi::Number>().Int32Value();
  if (descriptor >= 0) options.writable = to_bool(region["writable"]);
  Failure failure;
  if (region.Get("supply").As<Napi::Number>().DoubleValue() >= 0) {
    Supply supply = supply_of(region);
    const Napi::Value content = region["content"];
    if (content.IsTypedArray()) failure = take_bytes(content.As<Napi::Uint8Array>(), round_up(size, kPageSize), &supply.content);
    if (!failure && supply.kind == Supply::Kind::elsewhere)
      failure = open_source(region.Get("source").As<Napi::Number>().Int32Value(), &supply.source);
    options.supply = std::make_shared<Supply>(std::move(supply));
  }
  Object* object = nullptr;
  if (!failure)
    failure = descriptor < 0 ? object_create({.size = size}, options, &object) : object_from_fd(descriptor, options, &object);
  if (!failure && options.registers) failure = begin_registers(EnvState::of(env), object, options, model_of(region["model"]));
  if (failure && object != nullptr) object_release(object);
  if (failure) return to_js(env, failure);
  EnvState::of(env).objects.emplace(object->id, EnvState::HeldObject{object, 1});
  return Napi::Number::New(env, static_cast<double>(object->id));
}

Napi::Value device_limit(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  return Napi::Number::New(info.Env(), device == nullptr ? 0 : device->limit_ms);
}

Napi::Value device_name(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  return Napi::String::New(info.Env(), device == nullptr ? "device" : device->name);
}

// deviceState(deviceId): 0 there, 1 shut, 2 unknown or forgotten
Napi::Value device_state(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  return Napi::Number::New(info.Env(), device == nullptr ? 2 : device_is_shut(*device) ? 1 : 0);
}

// deviceShut(deviceId): whether this call did it
Napi::Value device_shut_js(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  return Napi::Boolean::New(info.Env(), device != nullptr && device_shut(*device));
}

// deviceAbandon(deviceId): its owner ends, and no thread can answer for it any more
void device_abandon_js(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  if (device == nullptr) return;
  abandon_device(device);
  std::erase(EnvState::of(info.Env()).devices, device);
}

// deviceForget(deviceId): it has been removed, and nothing is delivered to its owner any more
void device_forget_js(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  if (device == nullptr) return;
  device_abandon(*device);
  device_forget(*device);
  EnvState::of(info.Env()).forget_models(device->id);
  std::erase(EnvState::of(info.Env()).devices, device);
}

// deviceMappings(deviceId): how many are open, in all threads
Napi::Value device_mappings(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  if (device == nullptr) return Napi::Number::New(info.Env(), 0);
  std::lock_guard guard(device->lock);
  return Napi::Number::New(info.Env(), device->open_mappings);
}

constexpr size_t kWorkNumbers = 10;

// takeDeviceWork(deviceId, numbers): how many things there are to do, ten numbers each
Napi::Value take_device_work(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  auto numbers = info[1].As<Napi::Float64Array>();
  if (device == nullptr) return Napi::Number::New(info.Env(), 0);
  double* put = numbers.Data();
  const std::vector<Work> taken = device_take_work(*device, numbers.ElementLength() / kWorkNumbers);
  for (const Work& work : taken) {
    *put++ = static_cast<double>(work.kind);
    *put++ = static_cast<double>(work.token);
    put = std::copy(work.numbers.begin(), work.numbers.end(), put);
  }
  return Napi::Number::New(info.Env(), static_cast<double>(taken.size()));
}

// accessIsAsked(token)
Napi::Value access_is_asked(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), port_is_taken(to_u64(info[0])));
}

// faultIsAsked(token)
Napi::Value fault_is_asked(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), pager_is_asked(to_u64(info[0])));
}

// The op's content, copied to whole pages: `one`, or `many`. EDEADLK: it is a page that this thread would have to supply itself.
Failure take_content(const Napi::Uint8Array& view, size_t most, char* one, Bytes* many, Answer* answer) {
  const char* from = reinterpret_cast<const char*>(view.Data());
  answer->bytes = std::min<size_t>({view.ByteLength(), most, size_t{kMostAround} << kPageShift});
  const size_t room = round_up(std::max<size_t>(answer->bytes, 1), kPageSize);
  char* pages = one;
  if (room > kPageSize) pages = (*many = Bytes(room)).data();
  if (pages == nullptr) return {ENOMEM, "copy"};
  // The claim is held while the kernel reads them, so they must not be memory that can go away.
  if (guarded_copy(pages, from, answer->bytes).fault.any) return {EFAULT, "copy"};
  if (!pager_was_read(reinterpret_cast<uintptr_t>(from), answer->bytes)) return {EDEADLK, "copy"};
  memset(pages + answer->bytes, 0, room - answer->bytes);
  answer->content = pages;
  return {};
}

// answerFault(token, kind, content or undefined, most): whether a thread still waited for it | Failure, and nothing is answered:
// the content cannot be read. Bytes behind `most` are for no page of the region.
Napi::Value answer_fault(const Napi::CallbackInfo& info) {
  Answer answer{.kind = static_cast<Answer::Kind>(to_u32(info[1]))};
  constexpr size_t kLargestPage = 64 << 10;  // of any arm64 kernel
  char one[kLargestPage];
  Bytes many;
  if (info[2].IsTypedArray()) {
    const Failure failure =
        take_content(info[2].As<Napi::Uint8Array>(), static_cast<size_t>(to_u64(info[3])), one, &many, &answer);
    if (failure) return to_js(info.Env(), failure);
  } else {
    memset(one, 0, kPageSize);
    answer.content = one;
  }
  return Napi::Boolean::New(info.Env(), pager_answer(to_u64(info[0]), answer));
}

// selfFaults(id): touches of the mapping by the thread that would have had to answer
Napi::Value self_faults(const Napi::CallbackInfo& info) {
  const Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  const DeviceMapping* device_mapping = mapping == nullptr ? nullptr : mapping->device_mapping;
  return Napi::Number::New(info.Env(), device_mapping == nullptr ? 0 : device_mapping->self_faults.load());
}

// deviceCall(deviceId, numbers): token, or 0 when the device is gone. `numbers`: seven arguments.
Napi::Value device_call_js(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  const DeviceRef device = device_find(to_u64(info[0]));
  const auto numbers = info[1].As<Napi::Float64Array>();
  std::array<uint64_t, kCallNumbers> arguments{};
  for (size_t i = 0; i < arguments.size(); ++i) arguments[i] = static_cast<uint64_t>(numbers[i]);
  const uint64_t token = device_token();
  auto call = device == nullptr ? nullptr : device_call(*device, token, arguments);
  if (call == nullptr) return Napi::Number::New(info.Env(), 0);
  state.device_calls.emplace(token, EnvState::HeldCall{device, std::move(call)});
  return Napi::Number::New(info.Env(), static_cast<double>(token));
}

// deviceCallWait(token, milliseconds): whether it has been settled
Napi::Value device_call_wait_js(const Napi::CallbackInfo& info) {
  const DeviceCall& call = *EnvState::of(info.Env()).device_calls.at(to_u64(info[0])).call;
  const CallResult result = device_call_wait(call, static_cast<uint64_t>(info[1].As<Napi::Number>().DoubleValue() * 1e6));
  return Napi::Boolean::New(info.Env(), result != CallResult::pending);
}

// deviceCallEnd(token, numbers, withdraw): the message of an error without an errno, else ''. `numbers` gets its CallResult,
// errno and the value's low and high words. The caller waits no longer: answerCall tells the owner of a later answer that it is
// too late.
Napi::Value device_call_end_js(const Napi::CallbackInfo& info) {
  EnvState& state = EnvState::of(info.Env());
  const auto found = state.device_calls.find(to_u64(info[0]));
  const EnvState::HeldCall held = found->second;
  state.device_calls.erase(found);
  device_call_end(*held.device, to_u64(info[0]), info[2].As<Napi::Boolean>());
  const DeviceCall& call = *held.call;  // settled before that, or never
  auto numbers = info[1].As<Napi::Float64Array>();
  numbers[call_answer_at::result] = static_cast<double>(call.result);
  numbers[call_answer_at::errno_] = call.errnum;
  numbers[call_answer_at::low] = low_half(call.value);
  numbers[call_answer_at::high] = high_half(call.value);
  return Napi::String::New(info.Env(), call.message);
}

// answerCall(deviceId, token, numbers, message): whether the caller still waited for it. `numbers` are a call's answer, of which
// errno and the value count.
Napi::Value answer_call(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  const double* numbers = info[2].As<Napi::Float64Array>().Data();
  const uint64_t value = value_of_halves(numbers[call_answer_at::low], numbers[call_answer_at::high]);
  const std::string message = info[3].As<Napi::String>();
  const int errnum = static_cast<int>(numbers[call_answer_at::errno_]);
  const bool answered = device != nullptr && device_answer_call(*device, to_u64(info[1]), errnum, value, message);
  return Napi::Boolean::New(info.Env(), answered);
}

// registerFile(numbers, ones): an External of a model. `numbers`: offset, width, kind, the value's low and high words, and when
// JavaScript is called, of each register, sorted by offset.
constexpr unsigned kAsksReads = 1, kAsksWrites = 2;
Napi::Value register_file(const Napi::CallbackInfo& info) {
  constexpr napi_type_tag kTag = REVOCABLE_MMAP_REGISTER_MODEL_TAG;
  const auto numbers = info[0].As<Napi::Float64Array>();
  std::vector<RegisterSpec> specs;
  constexpr size_t kNumbers = 6;
  for (size_t i = 0; i + kNumbers <= numbers.ElementLength(); i += kNumbers) {
    const auto asks = static_cast<unsigned>(numbers[i + 5]);
    specs.push_back({static_cast<uint64_t>(numbers[i]), static_cast<uint32_t>(numbers[i + 1]),
                     static_cast<RegisterKind>(static_cast<int>(numbers[i + 2])), value_of_halves(numbers[i + 3], numbers[i + 4]),
                     (asks & kAsksReads) != 0, (asks & kAsksWrites) != 0});
  }
  auto* file = new RegisterFile(specs, to_bool(info[1]) ? 0xff : 0);
  // The External holds what accesses see; the file is found from there.
  auto external = Napi::External<RegisterModel>::New(info.Env(), const_cast<RegisterModel*>(file->model()),
                                                     [file](Napi::Env, RegisterModel*) { delete file; });
  napi_type_tag_object(info.Env(), external, &kTag);
  return external;
}

// registerValue(model, index, numbers, set): the register's value, without the effects of an access
void register_value(const Napi::CallbackInfo& info) {
  auto* file = static_cast<RegisterFile*>(model_of(info[0])->context);
  auto numbers = info[2].As<Napi::Float64Array>();
  const size_t index = to_u32(info[1]);
  if (to_bool(info[3])) {
    file->set_value(index, value_of_halves(numbers[0], numbers[1]));
    return;
  }
  const uint64_t value = file->value(index);
  numbers[0] = low_half(value);
  numbers[1] = high_half(value);
}

// combineAccess(deviceId, token, low, high, numbers): whether the access puts something where the model has just read that value;
// its words are in `numbers`
Napi::Value combine_access(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  uint64_t value = 0;
  const uint64_t old = uint64_t{to_u32(info[2])} | uint64_t{to_u32(info[3])} << 32;
  const bool puts = device != nullptr && device_combine(*device, to_u64(info[1]), old, &value);
  auto numbers = info[4].As<Napi::Float64Array>();
  numbers[0] = low_half(value);
  numbers[1] = high_half(value);
  return Napi::Boolean::New(info.Env(), puts);
}

// answerAccess(deviceId, token, failed, low, high): whether a thread still waited for it
Napi::Value answer_access(const Napi::CallbackInfo& info) {
  const DeviceRef device = device_find(to_u64(info[0]));
  const uint64_t value = uint64_t{to_u32(info[3])} | uint64_t{to_u32(info[4])} << 32;
  const bool answered = device != nullptr && device_answer_access(*device, to_u64(info[1]), to_bool(info[2]), value);
  return Napi::Boolean::New(info.Env(), answered);
}

// registerAccess(objectId, write, offset, width, numbers): whether the model in C++ was there, or null: JavaScript answers; words
// to or from `numbers`
Napi::Value register_access(const Napi::CallbackInfo& info) {
  const Object* object = EnvState::of(info.Env()).object(info[0]);
  auto numbers = info[4].As<Napi::Float64Array>();
  uint64_t value = value_of_halves(numbers[0], numbers[1]);
  PortAnswer answer = PortAnswer::gone;
  if (object != nullptr) {
    answer = port_access(object->port.load(), to_bool(info[1]), to_u64(info[2]), to_u32(info[3]), &value);
  }
  if (answer == PortAnswer::asks) return info.Env().Null();
  numbers[0] = low_half(value);
  numbers[1] = high_half(value);
  return Napi::Boolean::New(info.Env(), answer == PortAnswer::given);
}

// registerAccessAsked(model, objectId, numbers): what the model in C++ does for an access that JavaScript answers; the value's
// words to or from `numbers`
void register_access_asked(const Napi::CallbackInfo& info) {
  const Object* object = EnvState::of(info.Env()).object(info[1]);
  double* numbers = info[2].As<Napi::Float64Array>().Data();
  uint64_t value = value_of_halves(numbers[register_access_at::low], numbers[register_access_at::high]);
  port_access_asked(object == nullptr ? nullptr : object->port.load(), *model_of(info[0]),
                    numbers[register_access_at::write] != 0, static_cast<uint64_t>(numbers[register_access_at::offset]),
                    static_cast<uint32_t>(numbers[register_access_at::width]), &value);
  numbers[register_access_at::low] = low_half(value);
  numbers[register_access_at::high] = high_half(value);
}

// rawFailures(id, numbers): how many raw accesses to the mapping's registers did not reach the model; of the last one, an index
// into CAUSES and the offset. -1 while none does, as the device is going, or its regions come back: they get the fill already, or
// still, and the mapping's state says nothing of it. A page that was diverted is back when this returns: whatever had the fill in
// its place came before, and so is among what is counted now.
Napi::Value raw_failures(const Napi::CallbackInfo& info) {
  Mapping* mapping = EnvState::of(info.Env()).mapping(info[0]);
  const DeviceMapping* device_mapping = mapping == nullptr ? nullptr : mapping->device_mapping;
  if (device_mapping == nullptr) return Napi::Number::New(info.Env(), 0);
  const RegisterPort* port = mapping->object->port.load(std::memory_order_acquire);
  if (port != nullptr && !port->open.load()) return Napi::Number::New(info.Env(), -1);
  if ((status_words()[mapping->slot].load() & kStatusMarked) != 0) settle_strays(mapping);
  const uint32_t count = device_mapping->raw_failures.load(std::memory_order_acquire);
  const uint64_t last = device_mapping->raw_failure.load(std::memory_order_relaxed);
  auto numbers = info[1].As<Napi::Float64Array>();
  numbers[0] = static_cast<double>(last >> 56);
  numbers[1] = static_cast<double>(last & ((uint64_t{1} << 56) - 1));
  return Napi::Number::New(info.Env(), count);
}

// token(): a number that no other call in this process gets
Napi::Value token(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(device_token())); }

Napi::Value thread_id(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), abi::tid()); }

bool asks_owner(const Supply& supply) {
  if (supply.kind == Supply::Kind::elsewhere) return supply.owner_serves;
  return supply.kind == Supply::Kind::ask || supply.ask_before_write;
}

// objectDevice(objectId): { device, region, registers, native, asking, raw, supplied, asksBeforeWrite,
// asks } | null
Napi::Value object_device(const Napi::CallbackInfo& info) {
  const Object* object = EnvState::of(info.Env()).object(info[0]);
  if (object == nullptr || object->backing == nullptr) return info.Env().Null();
  Napi::Object result = Napi::Object::New(info.Env());
  result["device"] = Napi::Number::New(info.Env(), static_cast<double>(device_of(object).id));
  result["region"] = Napi::Number::New(info.Env(), object->device_region);
  result["registers"] = Napi::Boolean::New(info.Env(), object->registers);
  const RegisterPort* port = object->registers ? object->port.load() : nullptr;
  result["native"] = Napi::Boolean::New(info.Env(), port != nullptr && port->model.load() != nullptr);
  result["asking"] = Napi::Boolean::New(info.Env(), port != nullptr && port->asking.load() != nullptr);
  result["raw"] = Napi::Boolean::New(info.Env(), object->trapped);
  result["supplied"] = Napi::Boolean::New(info.Env(), object->supply != nullptr);
  result["asksBeforeWrite"] = Napi::Boolean::New(info.Env(), object->supply != nullptr && object->supply->ask_before_write);
  result["asks"] = Napi::Boolean::New(info.Env(), object->supply != nullptr && asks_owner(*object->supply));
  return result;
}

// eventfdOpen(): fd | Failure
Napi::Value eventfd_open(const Napi::CallbackInfo& info) {
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? to_js(info.Env(), Failure::from_errno("eventfd")) : Napi::Number::New(info.Env(), fd).As<Napi::Value>();
}

void eventfd_signal(const Napi::CallbackInfo& info) { eventfd_write(info[0].As<Napi::Number>().Int32Value(), 1); }

}  // namespace

void abandon_device(const DeviceRef& device) {
  device_abandon(*device);
  pager_drop_device(*device);
  revoke_objects_of(*device);
  device_forget(*device);
}

void export_devices(Napi::Env env, Napi::Object exports) {
  exports["deviceCreate"] = Napi::Function::New<device_create_js>(env, "deviceCreate");
  exports["pagerStart"] = Napi::Function::New<pager_start_js>(env, "pagerStart");
  exports["deviceRegion"] = Napi::Function::New<device_region>(env, "deviceRegion");
  exports["deviceLimit"] = Napi::Function::New<device_limit>(env, "deviceLimit");
  exports["deviceName"] = Napi::Function::New<device_name>(env, "deviceName");
  exports["deviceState"] = Napi::Function::New<device_state>(env, "deviceState");
  exports["deviceShut"] = Napi::Function::New<device_shut_js>(env, "deviceShut");
  exports["deviceAbandon"] = Napi::Function::New<device_abandon_js>(env, "deviceAbandon");
  exports["deviceForget"] = Napi::Function::New<device_forget_js>(env, "deviceForget");
  exports["deviceMappings"] = Napi::Function::New<device_mappings>(env, "deviceMappings");
  exports["takeDeviceWork"] = Napi::Function::New<take_device_work>(env, "takeDeviceWork");
  exports["accessIsAsked"] = Napi::Function::New<access_is_asked>(env, "accessIsAsked");
  exports["faultIsAsked"] = Napi::Function::New<fault_is_asked>(env, "faultIsAsked");
  exports["answerFault"] = Napi::Function::New<answer_fault>(env, "answerFault");
  exports["selfFaults"] = Napi::Function::New<self_faults>(env, "selfFaults");
  exports["deviceCall"] = Napi::Function::New<device_call_js>(env, "deviceCall");
  exports["deviceCallWait"] = Napi::Function::New<device_call_wait_js>(env, "deviceCallWait");
  exports["deviceCallEnd"] = Napi::Function::New<device_call_end_js>(env, "deviceCallEnd");
  exports["answerCall"] = Napi::Function::New<answer_call>(env, "answerCall");
  exports["token"] = Napi::Function::New<token>(env, "token");
  exports["threadId"] = Napi::Function::New<thread_id>(env, "threadId");
  exports["objectDevice"] = Napi::Function::New<object_device>(env, "objectDevice");
  exports["isRegisterModel"] = Napi::Function::New<is_register_model>(env, "isRegisterModel");
  exports["registerFile"] = Napi::Function::New<register_file>(env, "registerFile");
  exports["registerValue"] = Napi::Function::New<register_value>(env, "registerValue");
  exports["combineAccess"] = Napi::Function::New<combine_access>(env, "combineAccess");
  exports["answerAccess"] = Napi::Function::New<answer_access>(env, "answerAccess");
  exports["registerAccess"] = Napi::Function::New<register_access>(env, "registerAccess");
  exports["registerAccessAsked"] = Napi::Function::New<register_access_asked>(env, "registerAccessAsked");
  exports["rawFailures"] = Napi::Function::New<raw_failures>(env, "rawFailures");
  exports["eventfdOpen"] = Napi::Function::New<eventfd_open>(env, "eventfdOpen");
  exports["eventfdSignal"] = Napi::Function::New<eventfd_signal>(env, "eventfdSignal");
}

}  // namespace revocable::binding
