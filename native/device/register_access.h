// Where a raw access to registers goes, what it gets there, and what is noted of one that does not get there. Async-signal-safe.
#pragma once

#include <cstdint>

#include "core/event_ring.h"
#include "core/mapping_record.h"
#include "device/register_port.h"
#include "instruction/decode.h"

namespace revocable {

enum class AccessVerdict : uint8_t {
  deliver,
  gone,       // revoked, suspended or closed in this moment
  forbidden,  // by the mapping's protection
  refused     // not wholly within the registers
};

// All that is needed of a mapping once its record may be recycled.
struct Target {
  RegisterPort* port = nullptr;
  uint32_t incarnation = 0;  // of the port, when the mapping was seen alive
  uint64_t offset = 0;       // in the device's region
  uintptr_t address = 0;     // the access's first byte that is the mapping's
  AccessVerdict verdict = AccessVerdict::refused;
  Fill fill = Fill::zeros;
  uint32_t slot = 0, generation = 0;
};

// In a reader's scope.
Target target_of(Mapping* mapping, const MemoryAccess& access);

// A mapping of registers that lives, or null. In a reader's scope.
Mapping* trapped_mapping(uintptr_t address);

uint64_t fill_word(Fill fill);

// The record of an access that did not get there: for check(), and as an event.
void report_event(const Target& target, bool write, EventKind kind, Cause cause);
void report_verdict(const Target& target, const MemoryAccess& access);
void report_result(const Target& target, const MemoryAccess& access, AccessResult result);
// For check() alone: the mapping lives on, as after a suspension.
void note_gone(const Target& target);

// Whether there still is what the access was for.
bool is_behind(const Target& target);

// A model in C++, piece by piece, under its turn.
void read_pieces(RegisterPort* port, const RegisterModel& model, uint64_t offset, unsigned bytes, void* into);
void write_pieces(RegisterPort* port, const RegisterModel& model, uint64_t offset, unsigned bytes, const void* from);

// A model in JavaScript, piece by piece.
AccessResult ask_for_bytes(const Target& target, uint64_t offset, unsigned bytes, bool write, char* at);

// Bytes from the model, or to it, whichever that is. Those that the access does not enable stay as they are.
AccessResult transfer(const Target& target, const MemoryAccess& access, bool write, char* bytes);

}  // namespace revocable
