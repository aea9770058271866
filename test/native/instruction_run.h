// Running single instructions of any encoding, with all registers set, on operands next to which nothing may be touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "instruction/decode.h"
#include "instruction/emulate.h"
#include "instruction/vector.h"

namespace revocable {

using Random = std::mt19937_64;

constexpr uint64_t kStatusFlags = 0x8d5;
constexpr unsigned kRsp = 4;

struct Registers {
  uint64_t general[16];  // rsp is the test's own
  uint64_t flags;
  uint8_t vectors[512];       // as fxsave has them
  uint8_t vectors_high[256];  // the upper halves of ymm; zeros where the processor has none
  // With AVX-512 only: the upper halves of zmm0 to zmm15, zmm16 to zmm31, and the masks k0 to k7.
  uint8_t zmm_high[512], more_zmm[1024];
  uint64_t masks[8];
};

// Of no numbers, with all exceptions masked.
Registers blank_registers();
// Whether instructions with VEX can be run, and those with EVEX.
bool has_avx();
bool has_avx512();
// Random general registers and flags.
void fill_registers(Random& random, Registers* registers);

// The program, and two pages of data of which nothing next to them may be touched.
struct Arena {
  Arena();
  ~Arena();
  uint8_t* code;
  uint8_t* data;
  uint8_t* moved;  // as far from `data` as an operand is moved
  size_t distance;
};

// What run() says of an instruction that touched what it must not.
constexpr int kTouched = 1000;

// Before the first run().
void catch_signals();

// Runs the instruction of `length` bytes at `code`, behind which it writes. The signal that it raised, or 0.
int run(const uint8_t* code, unsigned length, Registers* registers);

// Whether the last run left rsp alone. A signal finds no stack where it did not.
bool kept_stack();

// What the fault handler would be given.
MachineContext context_of(ucontext_t* context, const Registers& registers, const uint8_t* code);

// A signal's frame, as far as instructions look at it: as the fault handler would be given it.
struct Frame {
  static constexpr size_t kImage = 4096;  // what it says of its size
  alignas(64) uint8_t image[kImage + 64] = {};
  ucontext_t context{};

  MachineContext machine(const Registers& registers, const uint8_t* code);
  // All components are in use.
  void put(const Registers& registers);
  // The component of that number, which the header then calls initial, gets random bytes. Its registers are zeros.
  void forget(unsigned component, Registers* registers, Random& random);
  bool in_use(unsigned component) const;
  // Which of the vector registers or MXCSR are others; nothing, if none is.
  std::string differs(const Registers& registers) const;
};

// What ModRM and SIB say, and which registers give the operand the address it shall have.
struct Address {
  unsigned base = kNoRegister, index = kNoRegister, scale = 0, displacement_bytes = 0;
  bool from_next = false;
  size_t displacement_at = 0;  // in the code
};

unsigned any_register(Random& random);  // but rsp
Address any_address(Random& random);

// ModRM, SIB and room for a displacement.
void append(std::vector<uint8_t>* code, unsigned reg, Address* address);

// Gives the operand the address `target`, by the displacement and by the registers. `next` is the instruction behind this one,
// and `step` the unit of a displacement of one byte.
void aim(const Address& address, uintptr_t target, uintptr_t next, unsigned step, Random& random, uint8_t* code,
         Registers* registers);

// Numbers that make a difference more often than any others.
uint64_t any_value(Random& random);
void randomize(Random& random, uint8_t* at, size_t bytes);

std::string bytes_of(const uint8_t* code, size_t bytes);

}  // namespace revocable
