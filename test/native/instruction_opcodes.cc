#include "instruction_opcodes.h"

#include <algorithm>
#include <cstring>

#include "check.h"

#if defined(__x86_64__)

namespace revocable {

namespace {

constexpr uint8_t kNoPrefix = 0;
constexpr uint8_t kPrefixes[] = {kNoPrefix, 0x66, 0xf3, 0xf2};

void begin_legacy(const Opcode& what, unsigned r, unsigned x, unsigned b, std::vector<uint8_t>* code) {
  if (kPrefixes[what.prefix] != kNoPrefix) code->push_back(kPrefixes[what.prefix]);
  code->push_back(static_cast<uint8_t>(0x40 | what.w << 3 | r << 2 | x << 1 | b));
  if (what.map > 0) code->push_back(0x0f);
  if (what.map > 1) code->push_back(what.map == 2 ? 0x38 : 0x3a);
}

// VEX.pp and EVEX.pp count the prefixes as kPrefixes does.
void begin_vector(const Opcode& what, unsigned r, unsigned x, unsigned b, unsigned vector, std::vector<uint8_t>* code) {
  const uint8_t registers = static_cast<uint8_t>((~r & 1) << 7 | (~x & 1) << 6 | (~b & 1) << 5 | (~r & 2) << 3);
  const uint8_t end = static_cast<uint8_t>((~vector & 15) << 3 | what.prefix);
  if (what.space == Opcode::vex) {
    for (const unsigned byte : {0xc4u, (registers & 0xe0u) | what.map, what.w << 7 | what.length << 2 | end}) {
      code->push_back(static_cast<uint8_t>(byte));
    }
    return;
  }
  const unsigned last = (what.zeroing ? 0x80u : 0) | what.length << 5 | (what.broadcast ? 0x10u : 0) | (~vector & 16) >> 1;
  for (const unsigned byte : {0x62u, registers | what.map, what.w << 7 | 4u | end, last | what.mask}) {
    code->push_back(static_cast<uint8_t>(byte));
  }
}

}  // namespace

std::vector<uint8_t> encode(const Opcode& what, Address* address, Random& random) {
  const unsigned x = address->index != kNoRegister ? address->index >> 3 : 0;
  const unsigned b = address->base != kNoRegister ? address->base >> 3 : 0;
  // Some have no operand in VEX.vvvv, and are none if it is not 0; and mask registers have no numbers above 7.
  const bool evex = what.space == Opcode::evex;
  const unsigned r = evex ? random() % 2 * (random() % 4) : random() % 2;
  const unsigned vector = random() % 2 == 0 ? 0 : evex ? random() % 32 : any_register(random);
  std::vector<uint8_t> code;
  if (what.space == Opcode::legacy) begin_legacy(what, r, x, b, &code);
  else begin_vector(what, r, x, b, vector, &code);
  code.push_back(static_cast<uint8_t>(what.opcode));
  append(&code, what.reg, address);
  return code;
}

// An escape to another map is no opcode.
bool can_be_run(const Opcode& what, const Instruction& instruction) {
  if (!instruction.known) return false;
  if (what.space != Opcode::legacy) return true;
  if (what.map == 1) return what.opcode != 0x38 && what.opcode != 0x3a;
  if (what.map > 1) return true;
  const bool jumps_or_pushes = what.opcode == 0xff && (what.reg == 2 || what.reg == 4 || what.reg == 6);
  const bool pops = what.opcode == 0x8f;
  const bool constant = what.opcode >= 0xa0 && what.opcode <= 0xa3;
  return what.opcode != 0x0f && !jumps_or_pushes && !pops && !constant;
}

bool left_out(Random& random) {
  constexpr int kShare = 1000;
  return static_cast<int>(random() % kShare) >= check::rounds(kShare);
}

size_t left_in(int plain) { return static_cast<size_t>(std::min(plain, check::rounds(plain))); }

bool is_in_table(const Opcode& what) {
  std::vector<uint8_t> code;
  begin_vector(what, 0, 0, 0, 0, &code);
  code.push_back(static_cast<uint8_t>(what.opcode));
  code.push_back(static_cast<uint8_t>(what.reg << 3 | 7));
  code.resize(kLongestInstruction);
  ucontext_t context{};
  return decode_instruction(code.data(), code.size(), MachineContext(&context)).known;
}

bool is_string(const Opcode& what) {
  return what.space == Opcode::legacy && what.map == 0 && what.opcode >= 0xa4 && what.opcode <= 0xaf;
}

bool is_string_of_bits(const Opcode& what) {
  return what.space == Opcode::legacy && what.map == 1 && (what.opcode | 0x18) == 0xbb;
}

Instruction decode(const uint8_t* code, const Registers& state) {
  Frame frame;
  frame.put(state);
  return decode_instruction(code, kLongestInstruction, frame.machine(state, code));
}

unsigned unit_of_displacement(const Opcode& what, uint8_t* code, const Address& address, const Registers& state) {
  if (what.space != Opcode::evex || address.displacement_bytes != 1) return 1;
  uintptr_t at[2];
  for (const uint8_t displacement : {0, 1}) {
    code[address.displacement_at] = displacement;
    at[displacement] = decode(code, state).access[0].address;
  }
  return static_cast<unsigned>(at[1] - at[0]);
}

void randomize_vectors(Random& random, const Opcode& what, Registers* state) {
  for (size_t at = 160; at < 416; at += 8) {
    const double number = static_cast<double>(random() % 1000);
    memcpy(state->vectors + at, &number, sizeof number);
  }
  if (what.space != Opcode::evex) return;
  randomize(random, state->vectors + 160, 256);
  randomize(random, state->vectors_high, sizeof state->vectors_high);
  randomize(random, state->zmm_high, sizeof state->zmm_high);
  randomize(random, state->more_zmm, sizeof state->more_zmm);
  for (uint64_t& mask : state->masks) mask = random() % 4 == 0 ? random() & random() & random() & random() : any_value(random);
}

std::string vectors_differ(Registers a, Registers b) {
  constexpr size_t kLastOperand = 6, kBytes = 18;
  memset(a.vectors + kLastOperand, 0, kBytes);
  memset(b.vectors + kLastOperand, 0, kBytes);
  if (memcmp(a.vectors, b.vectors, sizeof a.vectors) != 0) return "vectors";
  if (memcmp(a.vectors_high, b.vectors_high, sizeof a.vectors_high) != 0) return "the upper halves of ymm";
  if (memcmp(a.zmm_high, b.zmm_high, sizeof a.zmm_high) != 0) return "the upper halves of zmm";
  if (memcmp(a.more_zmm, b.more_zmm, sizeof a.more_zmm) != 0) return "zmm16 to zmm31";
  return memcmp(a.masks, b.masks, sizeof a.masks) != 0 ? "masks" : "";
}

bool touches(const MemoryAccess& access, uintptr_t address) {
  const uintptr_t at = address - access.address;
  return at < access.width && (access.enabled >> at & 1) != 0;
}

}  // namespace revocable

#endif
