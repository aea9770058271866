// Every instruction that the table may have, and making it: for tests that run them all.
#pragma once

#include <string>
#include <vector>

#include "instruction_run.h"

namespace revocable {

// A place in the table: everything that says which instruction it is. With EVEX, also its mask and broadcast.
struct Opcode {
  enum { legacy, vex, evex } space;
  unsigned map, opcode, prefix, w, length, reg;
  unsigned mask = 0;
  bool zeroing = false, broadcast = false;
};

template <typename Body>
void for_each_opcode(Body body) {
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    for (unsigned reg = 0; reg < 8; ++reg) {
      for (unsigned prefix = 0; prefix < 4; ++prefix) {
        for (unsigned w = 0; w < 2; ++w) {
          for (unsigned map = 0; map < 4; ++map) body({Opcode::legacy, map, opcode, prefix, w, 0, reg});
          for (unsigned map = 1; map < 4; ++map) body({Opcode::vex, map, opcode, prefix, w, 0, reg});
          for (unsigned map = 1; map < 4; ++map) body({Opcode::vex, map, opcode, prefix, w, 1, reg});
        }
      }
    }
  }
}

// True for none, but where a sanitizer makes each instruction slow: there for all but a share of them.
bool left_out(Random& random);
// What is left of so many at least: never more of them, however many rounds there are.
size_t left_in(int plain);

// Whether the table has it, without a mask.
bool is_in_table(const Opcode& what);

// Of the table, as there are far more that are none.
template <typename Body>
void for_each_evex(Body body) {
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    for (unsigned reg = 0; reg < 8; ++reg) {
      for (unsigned prefix = 0; prefix < 4; ++prefix) {
        for (unsigned w = 0; w < 2; ++w) {
          for (unsigned map = 1; map < 4; ++map) {
            for (unsigned length = 0; length < 3; ++length) {
              const Opcode what{Opcode::evex, map, opcode, prefix, w, length, reg};
              if (is_in_table(what)) body(what);
            }
          }
        }
      }
    }
  }
}

// With other registers as random as the instruction allows.
std::vector<uint8_t> encode(const Opcode& what, Address* address, Random& random);

// What goes elsewhere, or changes the stack pointer, cannot be run by a test; an address that is a constant cannot be moved.
bool can_be_run(const Opcode& what, const Instruction& instruction);
bool is_string(const Opcode& what);
// One that begins where a register says.
bool is_string_of_bits(const Opcode& what);

// On a frame that has these registers.
Instruction decode(const uint8_t* code, const Registers& state);
// By how much a displacement of one byte moves the operand, as the decoder has it.
unsigned unit_of_displacement(const Opcode& what, uint8_t* code, const Address& address, const Registers& state);

// Small numbers in vector registers, as doubles: few of them trap. With AVX-512, anything, and masks of which some are empty.
void randomize_vectors(Random& random, const Opcode& what, Registers* state);

// Which vector registers are others. The x87 unit's own record of its last instruction and operand is the one thing that may
// tell.
std::string vectors_differ(Registers a, Registers b);

bool touches(const MemoryAccess& access, uintptr_t address);

}  // namespace revocable
