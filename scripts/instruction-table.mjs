// Writes native/instruction/instruction_table.inc: what each x86-64 instruction with an operand in memory does to it, as iced-x86
// knows it. `--check` compares instead, and fails when the file is not what would be written.
//
// Each opcode is decoded with every ModRM.reg, mandatory prefix, W and vector length. The registers are chosen so that what an
// instruction uses tells why: the operand's base is rbp, which no instruction uses by itself, the register that ModRM.reg names
// is one of r8 to r15 (mask registers have no such numbers), VEX.vvvv's is the one behind it, and so all others are used
// implicitly.
import { readFileSync, writeFileSync } from 'node:fs';
import iced from 'iced-x86';

const { Code, CpuidFeature, Decoder, DecoderOptions, EncodingKind, FlowControl, InstructionInfoFactory } = iced;
const { Formatter, FormatterSyntax, MemorySizeExt, Mnemonic, OpAccess, OpKind, Register, RegisterExt } = iced;
const FILE = new URL('../native/instruction/instruction_table.inc', import.meta.url);
const infos = new InstructionInfoFactory();
const formatter = new Formatter(FormatterSyntax.Nasm);

// What is emulated where its other operand is a general register or a constant, and its name in enum class Operation.
const OPERATIONS = {
  Mov: 'move',
  Movnti: 'move',
  Movdiri: 'move',
  Movbe: 'move_swapped',
  Movzx: 'move',
  Movsx: 'move_signed',
  Movsxd: 'move_signed',
  Add: 'add',
  Or: 'bit_or',
  Adc: 'adc',
  Sbb: 'sbb',
  And: 'bit_and',
  Sub: 'sub',
  Xor: 'bit_xor',
  Cmp: 'cmp',
  Test: 'test',
  Inc: 'inc',
  Dec: 'dec',
  Neg: 'neg',
  Not: 'bit_not',
  Xchg: 'xchg',
  Xadd: 'xadd',
  Cmpxchg: 'cmpxchg',
  Cmpxchg8b: 'cmpxchg_pair',
  Cmpxchg16b: 'cmpxchg_pair',
  Imul: 'imul',
  Bt: 'bt',
  Bts: 'bts',
  Btr: 'btr',
  Btc: 'btc',
  Rol: 'rol',
  Ror: 'ror',
  Rcl: 'rcl',
  Rcr: 'rcr',
  Shl: 'shl',
  Sal: 'shl',
  Shr: 'shr',
  Sar: 'sar',
};
// What is emulated where its other operand is a vector register, and how, as enum class VectorMove has it.
const VECTOR_MOVES = {
  whole: /^V?(Mov([au]p[sd]|dqa(32|64)?|dqu(8|16|32|64)?|s[sd]|[dq]|ntp[sd]|ntdqa?|nts[sd])|Lddqu)$/i,
  low: /^V?Movlp[sd]$/i,
  high: /^V?Movhp[sd]$/i,
  repeated: /^(V?Movddup|Vbroadcast(s[sd]|[fi]128|[fi]\d+x\d)|Vpbroadcast[bwdq])$/i,
  widened: /^V?Cvtss2sd$/i,
  narrowed: /^V?Cvtsd2ss$/i,
  added: /^V?Adds[sd]$/i,
  subtracted: /^V?Subs[sd]$/i,
  multiplied: /^V?Muls[sd]$/i,
  divided: /^V?Divs[sd]$/i,
};
const BIT_STRINGS = new Set(['Bt', 'Bts', 'Btr', 'Btc']);

// No access, or one that depends on more than the address; what the kernel forbids or answers itself; segments, whose loads put
// off the trap of a single step; and indivisible operations that nothing here knows.
const LEFT_OUT =
  /^(Clflush|Clflushopt|Clwb|Cldemote|Clzero|Prefetch.*|Monitor|Umonitor|S[gil]dt|Str|Smsw|L[defgs]s|Lss|Lar|Lsl|Ver[rw]|Movdir64b|Enqcmd.*|Wru?ss[dq]|Rstorssp|Clrssbsy|A(add|and|or|xor)|Cmp.{1,4}xadd)$/i;

// These read their operand whole, whatever the mask: exception classes E4NF, E5NF and E6NF of the SDM (volume 2, 2.8), which XED
// has as those without MEMORY_FAULT_SUPPRESSION. They put elements elsewhere than where they have read them.
const READS_WHOLE =
  /^V(align[dq]|cvtne2ps2bf16|dbpsadbw|gf2p8affine.*|insert[fi].*|movddup|movs[hl]dup|pack.*|palignr|pconflict[dq]|perm.*|pmadd(ubsw|wd)|pmultishiftqb|pshuf[bd]|pshuf[hl]w|punpck.*|shuf[fi].*|shufp[sd]|unpck.*)$/i;
// Shifts of all elements by one number, which is what is in memory.
const SHIFTS_BY_ONE_NUMBER = /^EVEX_Vps(ll|rl|ra)[wdq]_[xyz]mm_k1z_[xyz]mm_xmmm128$/;
// And these could fault for an element that they do not write.
const WRITES_WHOLE = /^Vextract/;

// Of AVX-512 on Xeon Phi only, where memory's elements are others than the mask's; and half precision, which has maps of its own.
const NO_EVEX = new Set([
  CpuidFeature.AVX512_4FMAPS,
  CpuidFeature.AVX512_4VNNIW,
  CpuidFeature.AVX512ER,
  CpuidFeature.AVX512PF,
  CpuidFeature.AVX512_FP16,
]);

// Without the bit counts' extension these are bsf and bsr, which leave the register alone when nothing is found.
const OLD_BIT_COUNTS = new Set(['Lzcnt', 'Tzcnt']);

// Here the mask is the highest bits of a vector register's elements.
const SIGNS = /^Vp?maskmov(p[sd]|[dq])$/i;

// Whether these write depends on what they read: effect_of() knows.
const CONDITIONAL = new Set(['Cmpxchg', 'Cmpxchg8b', 'Cmpxchg16b']);

const DISPLACEMENT = 1;
const BYTES_BEHIND = [1, 2, 3, 4, 5, 6, 7, 8, 9];

function decode(bytes) {
  const decoder = new Decoder(64, Uint8Array.from([...bytes, ...BYTES_BEHIND]), DecoderOptions.None);
  const instruction = decoder.decode();
  decoder.free();
  return instruction;
}

/** Where one of the instruction's operands in memory is, as enum class Place has it. `step`: the unit of a displacement of one byte. */
function placeOf({ base, index, displacement }, step) {
  if (index !== Register.None) return undefined;
  if (base === Register.RBP && displacement === BigInt(DISPLACEMENT * step)) return 'modrm';
  if (base === Register.RSI && displacement === 0n) return 'source';
  if (base === Register.RDI && displacement === 0n) return 'destination';
  if (base === Register.RSP) return 'stack';
  if (base === Register.None) return 'constant';
  return undefined;
}

const PLACES = ['none', 'modrm', 'constant', 'source', 'destination', 'stack'];
const READS = new Set([OpAccess.Read, OpAccess.CondRead, OpAccess.ReadWrite, OpAccess.ReadCondWrite]);
const WRITES = new Set([OpAccess.Write, OpAccess.CondWrite, OpAccess.ReadWrite, OpAccess.ReadCondWrite]);
const CERTAIN = new Set([OpAccess.Read, OpAccess.Write, OpAccess.ReadWrite]);

/** The accesses; undefined where one is conditional, of unknown size or of no place that is understood. */
function accessesOf(info, name, step) {
  const found = info.usedMemory().map((memory) => ({
    place: placeOf({ base: memory.base, index: memory.index, displacement: memory.displacement }, step),
    width: MemorySizeExt.size(memory.memorySize),
    access: memory.access,
  }));
  const understood = ({ place, width, access }) =>
    place !== undefined &&
    width > 0 &&
    width <= 64 &&
    (CERTAIN.has(access) || SIGNS.test(name) || (access === OpAccess.ReadCondWrite && CONDITIONAL.has(name)));
  if (found.length === 0 || found.length > 2 || !found.every(understood)) return undefined;
  found.sort((a, b) => PLACES.indexOf(a.place) - PLACES.indexOf(b.place));
  return found[0].place === 'stack' ? undefined : found;
}

/** How general registers are used: 'used', or 'overwritten' as a whole, by their numbers. */
function registersOf(info, name) {
  const uses = new Map();
  for (const { register, access } of info.usedRegisters()) {
    if (!RegisterExt.isGPR(register) || access === OpAccess.None) continue;
    const number = RegisterExt.number(RegisterExt.fullRegister(register));
    const whole = access === OpAccess.Write && RegisterExt.size(register) >= 4 && !OLD_BIT_COUNTS.has(name);
    uses.set(number, whole && uses.get(number) !== 'used' ? 'overwritten' : 'used');
  }
  return uses;
}

function writesSegment(info) {
  return info.usedRegisters().some(({ register, access }) => {
    return RegisterExt.isSegmentRegister(register) && access !== OpAccess.Read && access !== OpAccess.CondRead;
  });
}

/** What an emulated instruction combines with memory, as enum class Other has it, and the register's width. */
function emulationOf(instruction, name) {
  const none = { operation: 'none', other: 'none', memoryFirst: false, registerWidth: 0 };
  const condition = /^(Set|Cmov)/.exec(name)?.[1];
  const operation = condition === 'Set' ? 'set' : condition ? 'cmov' : OPERATIONS[name];
  if (operation === undefined || instruction.encoding !== EncodingKind.Legacy) return none;
  let other = 'none';
  let registerWidth = 0;
  for (let i = 0; i < instruction.opCount; i++) {
    const kind = instruction.opKind(i);
    if (kind === OpKind.Memory) continue;
    if (kind !== OpKind.Register) {
      other = isImplicitOne(instruction) ? 'one' : 'constant';
      continue;
    }
    const register = instruction.opRegister(i);
    if (!RegisterExt.isGPR(register)) return none;
    if (operation === 'imul' && i > 0) return none;
    const named = RegisterExt.number(RegisterExt.fullRegister(register)) >= 8;
    other = named ? 'reg' : register === Register.CL ? 'count' : 'accumulator';
    if (other !== 'count') registerWidth = RegisterExt.size(register);
  }
  if (operation === 'imul' && instruction.opCount === 1) return none;
  // imul with a constant has all three.
  if (operation === 'imul' && instruction.opCount === 3) other = 'constant';
  return { operation, other, memoryFirst: instruction.opKind(0) === OpKind.Memory, registerWidth };
}

function registersIn(instruction) {
  const registers = [];
  for (let i = 0; i < instruction.opCount; i++) {
    if (instruction.opKind(i) === OpKind.Register) registers.push(instruction.opRegister(i));
  }
  return registers;
}

const isVector = (register) => RegisterExt.isXMM(register) || RegisterExt.isYMM(register) || RegisterExt.isZMM(register);

/** How an instruction makes one of memory and a vector register the other, as enum class VectorMove has it, and the register's width. */
function vectorMoveOf(instruction, name) {
  const none = { vectorMove: 'none', vectorWidth: 0 };
  const vectorMove = Object.keys(VECTOR_MOVES).find((move) => VECTOR_MOVES[move].test(name));
  if (vectorMove === undefined) return none;
  const registers = registersIn(instruction);
  if (registers.length === 0 || !registers.every(isVector)) return none; // MMX, and the string instruction movsd
  const vectorWidth = RegisterExt.size(registers[0]);
  // vmovddup of 32 bytes repeats every second eight of them.
  if (vectorMove === 'repeated' && MemorySizeExt.size(instruction.memorySize) === vectorWidth) return none;
  return { vectorMove, vectorWidth };
}

/** The operand in memory with EVEX.b set: one element, in place of each. Undefined where that means nothing. */
function broadcastOf(bytes) {
  const [escape, first, second, third, ...rest] = bytes;
  const instruction = decode([escape, first, second, third | 0x10, ...rest]);
  const { isInvalid, isBroadcast, memorySize, memoryDisplacement } = instruction;
  instruction.free();
  if (isInvalid || !isBroadcast) return undefined;
  return { width: MemorySizeExt.size(memorySize), step: Number(memoryDisplacement) / DISPLACEMENT };
}

/**
 * How a mask chooses among the bytes of the operand in memory, as enum class Masking has it; bytes of an element; how many bits of the
 * mask there are; and bytes of the operand with EVEX.b. Element `i` is accessed where one of the mask's bits `i`, `i` + elements, … is
 * set.
 */
function maskingOf(instruction, name, bytes, width) {
  const none = { masking: 'none', element: 0, maskBits: 0, broadcast: 0 };
  if (SIGNS.test(name)) {
    const element = MemorySizeExt.elementSize(instruction.memorySize);
    return { ...none, masking: 'signs', element, maskBits: width / element };
  }
  if (instruction.encoding !== EncodingKind.EVEX) return none;
  const broadcast = broadcastOf(bytes);
  if (broadcast !== undefined && broadcast.step !== broadcast.width) throw new Error(`the displacement of ${name}`);
  const element = broadcast?.width ?? MemorySizeExt.elementSize(instruction.memorySize);
  const step = Number(instruction.memoryDisplacement) / DISPLACEMENT;
  const packed = /^Vp?(compress|expand)/.test(name);
  if (step !== (packed ? element : width)) throw new Error(`the displacement of ${name}`);
  const masked = /^Vp?broadcast/.test(name) ? RegisterExt.size(registersIn(instruction)[0]) : width;
  const elements = { element, maskBits: masked / element, broadcast: broadcast?.width ?? 0 };
  const { opCode } = instruction;
  const maskable = opCode.canUseOpMaskRegister;
  opCode.free();
  if (!maskable || WRITES_WHOLE.test(name)) return { ...none, broadcast: elements.broadcast };
  if (packed) return { ...elements, masking: 'packed' };
  const whole = READS_WHOLE.test(name) || SHIFTS_BY_ONE_NUMBER.test(Code[instruction.code]);
  return whole ? { ...none, masking: 'whole', broadcast: elements.broadcast } : { ...elements, masking: 'each' };
}

/** Shifts by one say so without a byte for it. */
function isImplicitOne(instruction) {
  return /_1$/.test(Code[instruction.code]);
}

/** What is known of one encoding, whose `bytes` are all but its constant; undefined where it is left alone. */
function formOf(bytes, encoding, { lockable = false, registerNumber, vectorRegister, isMask = false }) {
  const instruction = decode(bytes);
  const info = infos.info(instruction);
  try {
    if (instruction.isInvalid || instruction.encoding !== encoding || instruction.length <= 0) return undefined;
    const name = Mnemonic[instruction.mnemonic];
    if (isMask && !registersIn(instruction).some((register) => RegisterExt.isK(register))) return undefined;
    if (LEFT_OUT.test(name) || instruction.isPrivileged || instruction.isVsib || writesSegment(info)) return undefined;
    if (encoding === EncodingKind.EVEX && instruction.cpuidFeatures().some((feature) => NO_EVEX.has(feature))) return undefined;
    const control = instruction.flowControl;
    if (![FlowControl.Next, FlowControl.IndirectBranch, FlowControl.IndirectCall].includes(control)) return undefined;
    const step = encoding === EncodingKind.EVEX ? Number(instruction.memoryDisplacement) / DISPLACEMENT : 1;
    const accesses = accessesOf(info, name, step);
    if (accesses === undefined) return undefined;
    // Processors do not agree on the width of these with a prefix for 16 bits.
    if (control !== FlowControl.Next && accesses[0].width !== 8) return undefined;
    if (name === 'Movsxd' && accesses[0].width !== 4) return undefined;
    const emulation = {
      ...emulationOf(instruction, name),
      ...vectorMoveOf(instruction, name),
      ...maskingOf(instruction, name, bytes, accesses[0].width),
    };
    const uses = registersOf(info, name);
    const implicit = { used: 0, overwritten: 0 };
    for (const [number, use] of uses) if (number < 8 && number !== 5) implicit[use] |= 1 << number;
    const place = accesses[0].place;
    return {
      ...emulation,
      emulated: emulation.operation !== 'none',
      lockable,
      bitString: BIT_STRINGS.has(name) && emulation.other === 'reg',
      accesses,
      constant: place === 'modrm' ? instruction.length - bytes.length : 0,
      regUse: uses.get(registerNumber) ?? 'none',
      vectorUse: uses.get(vectorRegister) ?? 'none',
      implicit,
      example: formatter.format(instruction).replace(/rbp\+[0-9a-f]+h?/i, '…'),
    };
  } finally {
    info.free();
    instruction.free();
  }
}

// --- the three ways to encode ------------------------------------------------------------------------------------------------

const modrm = (reg) => [0x45 | (reg << 3), DISPLACEMENT];

const LEGACY_MAPS = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
const LEGACY_PREFIXES = [[], [0x66], [0xf3], [0xf2], [0x66, 0xf3], [0x66, 0xf2]];
const NO_OPCODES = [
  new Set([
    0x0f,
    0x26,
    0x2e,
    0x36,
    0x3e,
    0x64,
    0x65,
    0x66,
    0x67,
    0xf0,
    0xf2,
    0xf3,
    0xc4,
    0xc5,
    0x62,
    ...Array.from({ length: 16 }, (_, i) => 0x40 + i),
  ]),
  new Set([0x38, 0x3a]),
  new Set(),
  new Set(),
];
const isString = (map, opcode) => map === 0 && ((opcode >= 0xa4 && opcode <= 0xa7) || (opcode >= 0xaa && opcode <= 0xaf));

function legacyForms(map, opcode, reg) {
  if (NO_OPCODES[map].has(opcode)) return undefined;
  return LEGACY_PREFIXES.flatMap((prefixes) =>
    [0, 1].map((w) => {
      // A string instruction that is repeated does one element at a time.
      const kept = isString(map, opcode) ? prefixes.filter((prefix) => prefix === 0x66) : prefixes;
      const registerNumber = 8 + reg;
      const noModrm = map === 0 && opcode >= 0xa0 && opcode <= 0xaf && opcode !== 0xa8 && opcode !== 0xa9;
      const code = [0x44 | (w << 3), ...LEGACY_MAPS[map], opcode, ...(noModrm ? [] : modrm(reg))];
      const locked = decode([0xf0, ...kept, ...code]);
      const lockable = !locked.isInvalid && locked.hasLockPrefix;
      locked.free();
      return formOf([...kept, ...code], EncodingKind.Legacy, { lockable, registerNumber });
    }),
  );
}

/** The register that VEX.vvvv names: another than ModRM.reg's. Where an instruction has no such operand it must be 0. */
function withVector(reg, encode) {
  const vectorRegister = 8 + ((reg + 1) & 7);
  return encode(vectorRegister, { registerNumber: 8 + reg, vectorRegister }) ?? encode(0, { registerNumber: 8 + reg });
}

/** ModRM.reg names one of the upper eight registers, with R as it is encoded; or a mask register, of which there are but eight. */
function withRegister(encode) {
  return encode(0, false) ?? encode(0x80, true);
}

function vexForms(map, opcode, reg) {
  return [0, 1, 2, 3].flatMap((pp) =>
    [0, 1].flatMap((w) =>
      [0, 1].map((l) =>
        withRegister((r, isMask) =>
          withVector(reg, (vector, registers) => {
            const last = (w << 7) | ((~vector & 15) << 3) | (l << 2) | pp;
            return formOf([0xc4, 0x60 | r | map, last, opcode, ...modrm(reg)], EncodingKind.VEX, { ...registers, isMask });
          }),
        ),
      ),
    ),
  );
}

function evexForms(map, opcode, reg) {
  return [0, 1, 2, 3].flatMap((pp) =>
    [0, 1].flatMap((w) =>
      [0, 1, 2].map((length) =>
        withRegister((r, isMask) =>
          withVector(reg, (vector, registers) => {
            const bytes = [
              0x62,
              0x70 | r | map,
              (w << 7) | ((~vector & 15) << 3) | 4 | pp,
              (length << 5) | 8,
              opcode,
              ...modrm(reg),
            ];
            return formOf(bytes, EncodingKind.EVEX, { ...registers, isMask });
          }),
        ),
      ),
    ),
  );
}

// --- the table ---------------------------------------------------------------------------------------------------------------

/** Things of which each is kept once, and known by its number. */
class Numbered {
  numbers = new Map();
  all = [];
  constructor(first) {
    if (first !== undefined) this.number(first);
  }
  number(thing, key = JSON.stringify(thing)) {
    if (!this.numbers.has(key)) {
      this.numbers.set(key, this.all.length);
      this.all.push(thing);
    }
    return this.numbers.get(key);
  }
}

const forms = new Numbered(null);

function numberOfForm(form) {
  if (form === undefined) return 0;
  return forms.number(form, JSON.stringify({ ...form, operation: undefined, example: undefined }));
}

/** The one operation of an opcode. Its forms that are not emulated, as those of crc32 beside movbe, combine with nothing. */
function operationOf(found) {
  const operations = new Set(found.flatMap((form) => form?.operation ?? []).filter((name) => name !== 'none'));
  if (operations.size > 1) throw new Error(`one opcode for ${[...operations].join(' and ')}`);
  return [...operations][0] ?? 'none';
}

/** Patterns of forms by prefix and size for each opcode; a group where they depend on ModRM.reg. */
function space(maps, slots, formsOf) {
  const patterns = new Numbered(Array(slots).fill(0));
  const entries = new Numbered({ pattern: 0, operation: 'none' });
  const groups = new Numbered(Array(8).fill(0));
  const opcodes = maps.map((map) =>
    Array.from({ length: 256 }, (_, opcode) => {
      const byReg = Array.from({ length: 8 }, (_, reg) => {
        const found = formsOf(map, opcode, reg);
        if (found === undefined) return 0;
        return entries.number({ pattern: patterns.number(found.map(numberOfForm)), operation: operationOf(found) });
      });
      return byReg.every((entry) => entry === byReg[0]) ? { entry: byReg[0] } : { group: groups.number(byReg) };
    }),
  );
  return { patterns: patterns.all, entries: entries.all, groups: groups.all, opcodes };
}

function rows(numbers) {
  const lines = [];
  for (let i = 0; i < numbers.length; i += 32) lines.push(`    ${numbers.slice(i, i + 32).join(', ')},`);
  return lines.join('\n');
}

function array(type, name, lines) {
  return `constexpr ${type} ${name} = {\n${lines.join('\n')}\n};\n`;
}

function spaceText(name, { patterns, entries, groups, opcodes }) {
  const firstGroup = entries.length;
  const numbers = opcodes.map((map) => map.map(({ entry, group }) => (group === undefined ? entry : firstGroup + group)));
  const row = (list) => `  {${list.join(', ')}},`;
  return [
    array('uint16_t', `k${name}Patterns[][${patterns[0].length}]`, patterns.map(row)),
    array(
      'Entry',
      `k${name}Entries[]`,
      entries.map((entry) => `  {${entry.pattern}, Operation::${entry.operation}},`),
    ),
    array('uint16_t', `k${name}Groups[][8]`, groups.map(row)),
    array(
      'uint16_t',
      `k${name}Opcodes[][256]`,
      numbers.map((map) => `  {\n${rows(map)}\n  },`),
    ),
  ].join('');
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

function formText(form) {
  if (form === null) return '  {},';
  const access = (found) => {
    if (found === undefined) return '{}';
    return `{Place::${found.place}, ${found.width}, ${READS.has(found.access)}, ${WRITES.has(found.access)}}`;
  };
  const flags = ['emulated', 'lockable', 'bitString', 'memoryFirst']
    .filter((name) => form[name])
    .map((name) => `k${capital(name)}`);
  const hasMask = form.masking !== 'none' || form.broadcast !== 0;
  const fields = [
    `Other::${form.other}`,
    flags.join(' | ') || '0',
    form.registerWidth,
    form.constant,
    `{${access(form.accesses[0])}, ${access(form.accesses[1])}}`,
    `Use::${form.regUse}`,
    `Use::${form.vectorUse}`,
    form.implicit.used,
    form.implicit.overwritten,
    ...(form.vectorMove === 'none' && !hasMask ? [] : [`VectorMove::${form.vectorMove}`, form.vectorWidth]),
    ...(hasMask ? [`Masking::${form.masking}`, form.element, form.maskBits, form.broadcast] : []),
  ];
  return `  {${fields.join(', ')}},  // ${form.example}`;
}

function generate() {
  const legacy = space([0, 1, 2, 3], 12, legacyForms);
  const vex = space([1, 2, 3], 16, vexForms);
  const evex = space([1, 2, 3], 24, evexForms);
  const { version } = JSON.parse(readFileSync(new URL('../node_modules/iced-x86/package.json', import.meta.url), 'utf8'));
  return `// Generated by scripts/instruction-table.mjs from iced-x86 ${version}: do not edit, run \`npm run generate:instructions\`.
//
// An opcode's number is that of an entry, or, from the number of entries on, of a group: eight entries by ModRM.reg. An entry
// names a pattern: the numbers of forms by prefix and W (legacy), by pp, W and L (VEX), or by pp, W and length (EVEX). Form 0 is
// not understood. Behind each form is the first instruction that has it.

constexpr Form kForms[] = {
${forms.all.map(formText).join('\n')}
};
${spaceText('Legacy', legacy)}${spaceText('Vex', vex)}${spaceText('Evex', evex)}`;
}

const text = generate();
if (process.argv.includes('--check')) {
  if (readFileSync(FILE, 'utf8') !== text) {
    console.error('native/instruction/instruction_table.inc is not up to date: run `npm run generate:instructions`');
    process.exit(1);
  }
} else {
  writeFileSync(FILE, text);
}
