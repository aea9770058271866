// The way of an access to the registers of a simulated device: one at a time, in the order in which they come, to
//
//   - a model in C++, which answers wherever the access is made, also inside the fault handler (register_trap_inside.cc);
//   - a model in JavaScript, which answers in the device's thread while the accessor waits on a futex.
//
// A port belongs to the record of its object for ever: the fault handler may look at one whose object has gone. `open` says
// whether there is anything behind it.
#pragma once

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/futex.h"
#include "revocable-mmap/register-model.h"

namespace revocable {

struct Device;
struct Object;
class RegisterFile;  // register_file.h
struct TraceSet;     // access_trace.h

using RegisterModel = revocable_mmap_register_model;

struct AskedAccess;

struct RegisterPort {
  // The turn at the model in C++: 0 free, 1 taken, 2 taken with others waiting. Its holder has asynchronous signals
  // blocked and touches no mapped memory.
  FutexWord turn{0};
  // The gate: shut from the first instant of a removal, revocation, suspension or close. Looked at under the turn for a model in
  // C++, and again after an access has been left for one in JavaScript.
  std::atomic<bool> open{false};
  // Counts the objects it has belonged to: an access that was on its way to an earlier one is not for this.
  std::atomic<uint32_t> incarnation{0};

  // Written before `open`, and constant while that is set.
  std::atomic<const RegisterModel*> model{nullptr};  // null: JavaScript answers
  // Whose model that is, where JavaScript answers for some of the registers.
  std::atomic<const RegisterFile*> asking{nullptr};
  std::atomic<uint64_t> device{0};
  std::atomic<int> owner_tid{0};      // of the thread that answers
  std::atomic<uint32_t> limit_ms{0};  // how long it may take
  std::atomic<int> bell{-1};          // an eventfd that its event loop watches; never closed
  std::atomic<uint32_t> region{0};    // index in the device
  std::atomic<TraceSet*> traces{nullptr};

  std::atomic<AskedAccess*> asked{nullptr};  // newest first

  RegisterPort* older = nullptr;  // of all that have been made
};

// The turn at a model in C++. In the fault handler, or in normal code with asynchronous signals blocked.
class PortTurn {
 public:
  explicit PortTurn(RegisterPort* port) : port_(port) {
    uint32_t free = 0;
    if (port->turn.compare_exchange_strong(free, 1, std::memory_order_acquire, std::memory_order_relaxed)) return;
    while (port->turn.exchange(2, std::memory_order_acquire) != 0) futex_wait_private(&port->turn, 2, nullptr);
  }
  ~PortTurn() {
    if (port_->turn.exchange(0, std::memory_order_release) == 2) futex_wake_private(&port_->turn, 1);
  }
  PortTurn(const PortTurn&) = delete;
  PortTurn& operator=(const PortTurn&) = delete;

 private:
  RegisterPort* port_;
};

inline uint64_t low_bytes(uint64_t value, unsigned width) {
  return width == 8 ? value : value & ((uint64_t{1} << (8 * width)) - 1);
}

// An access splits into naturally aligned pieces of at most 8 bytes, in ascending order: `each(offset, width, done)`, `done`
// being how many bytes came before. Ends early, and returns false, when `each` does.
template <typename Each>
bool for_each_piece(uint64_t offset, unsigned bytes, Each each) {
  for (unsigned done = 0; done < bytes;) {
    unsigned width = 8;
    while ((offset + done) % width != 0 || width > bytes - done) width /= 2;
    if (!each(offset + done, width, done)) return false;
    done += width;
  }
  return true;
}

// Whether JavaScript answers the access although there is a model in C++. Under the turn. Async-signal-safe.
bool port_asks(const RegisterPort* port, uint64_t offset, unsigned bytes, bool reads, bool writes);

// One call of the model in C++, under the turn, and its record in the traces. `raw`: not by a checked accessor.
// Async-signal-safe.
uint64_t model_read(RegisterPort* port, const RegisterModel& model, uint64_t offset, unsigned width, bool raw);
void model_write(RegisterPort* port, const RegisterModel& model, uint64_t offset, unsigned width, uint64_t value, bool raw);

// --- a model in JavaScript --------------------------------------------------------------------------------------------------

// What a read-modify-write puts where it has read `old`; false when it puts nothing (a comparison that failed).
struct Combination {
  bool (*put)(const void* operands, uint64_t old, uint64_t* value) = nullptr;
  alignas(16) std::array<unsigned char, 240> operands{};
};

struct RegisterAccess {
  uint64_t offset = 0;
  unsigned width = 0;
  bool reads = false, writes = false;
  uint64_t value = 0;                        // to be written, where nothing is read
  const Combination* combination = nullptr;  // of an access that reads and writes
};

enum class AccessResult : uint32_t {
  answered,
  gone,    // there is nothing behind the port any more
  failed,  // the model threw
  late,    // it did not answer in time
  self     // it would have to answer in this very thread
};

// Leaves the access for the device's thread and waits for its answer, the value read. Async-signal-safe.
AccessResult ask_for_access(RegisterPort* port, uint32_t incarnation, const RegisterAccess& access, uint64_t* value);

// An access that a thread waits for. Slots are handed out by their state words, and never freed.
struct AskedAccess {
  enum State : uint32_t { kFree, kFilling, kAsked, kCopying, kTaken, kAnswering, kAnswered, kGone, kLeft };
  static constexpr uint32_t kStateBits = 8;  // above them, a generation: a late answer finds another one

  FutexWord word{kFree};
  AskedAccess* next = nullptr;
  // Written while filling, read while copying; the port at any time, by who looks for its accesses.
  std::atomic<const RegisterPort*> port{nullptr};
  uint32_t incarnation = 0;
  uint64_t offset = 0;
  uint32_t width = 0;
  bool reads = false, writes = false, combines = false;
  int thread = 0;
  uint64_t value = 0;  // to be written; then what was read
  bool failed = false;
  Combination combination{};
};

inline constexpr size_t kAskedAccesses = 256;
extern std::array<AskedAccess, kAskedAccesses> g_asked_accesses;

// Whether threads that wait may look for a while before they sleep: where there is more than one processor.
extern std::atomic<bool> g_register_waits_spin;

// What the device's thread has taken to answer.
struct TakenAccess {
  uint64_t token = 0;
  uint64_t offset = 0;
  uint32_t region = 0;
  uint32_t width = 0;
  bool reads = false, writes = false, combines = false;
  int thread = 0;
  uint64_t value = 0;
  Combination combination{};
};

// --- normal code --------------------------------------------------------------------------------------------------------------

// Threads that wait for JavaScript go on, with the answer that it is gone. An answer that is being given now is still given.
// Async-signal-safe.
void port_let_go(RegisterPort* port);

// Takes what no thread waits for any more off the list; where the gate is shut, everything. Async-signal-safe.
void port_sweep(RegisterPort* port);

// Whether it is the only one there.
inline bool port_push(RegisterPort* port, AskedAccess* slot) {
  AskedAccess* newest = port->asked.load(std::memory_order_relaxed);
  do slot->next = newest;
  while (!port->asked.compare_exchange_weak(newest, slot));
  return newest == nullptr;  // the slot itself may be another access's by now
}

// The device's thread looks. Async-signal-safe.
inline void port_ring(RegisterPort* port) {
  const uint64_t one = 1;
  const int saved_errno = errno;
  if (write(port->bell.load(std::memory_order_relaxed), &one, sizeof one) < 0) errno = saved_errno;  // full: it has been rung
}

// What the device's thread is to answer, oldest first; appended to `taken`.
void port_take(RegisterPort* port, std::vector<TakenAccess>* taken);
// True if a thread still waits for what has been taken.
bool port_is_taken(uint64_t token);
// False when no thread waits for it any more.
bool port_answer(uint64_t token, bool failed, uint64_t value);

struct PortOptions {
  const RegisterModel* model = nullptr;
  const Device* device = nullptr;
  uint32_t region = 0;
  int bell = -1;
  bool trapped = false;  // raw accesses reach it
};

// Makes the object's port, or uses it again, and opens it.
void port_begin(Object* object, const PortOptions& options);
// Shuts the gate. When it returns the model in C++ is not running and will not be called; who waits for JavaScript goes on, and
// gets the answer that it is gone. Null is fine.
void port_shut(RegisterPort* port);
// After a suspension.
void port_open(RegisterPort* port);
// Shuts it for good, if it is still one of this device.
void port_shut_of(RegisterPort* port, uint64_t device);

// In the child of a fork: releases a turn that a thread of the parent held. Async-signal-safe.
void port_after_fork();

enum class PortAnswer : uint32_t {
  gone,
  given,
  asks  // nothing has been done: JavaScript answers
};

// One access from normal code to a model in C++.
PortAnswer port_access(RegisterPort* port, bool write, uint64_t offset, unsigned width, uint64_t* value);
// The part that C++ has in an access that JavaScript answers: without a record in the traces, and also when the gate has been
// shut meanwhile. Null: its object has gone.
void port_access_asked(RegisterPort* port, const RegisterModel& model, bool write, uint64_t offset, unsigned width,
                       uint64_t* value);

}  // namespace revocable
