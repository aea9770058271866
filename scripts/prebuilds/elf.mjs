// Reads what a shared object of 64 bits, little-endian, asks of its surroundings: architecture, libraries, symbol versions, and whether
// symbols or debug information for people are still in it. No tool of the host is needed, and any architecture can be read.
const MACHINES = { 62: 'x64', 183: 'arm64' };
const SECTION = { symbols: 2, dynamic: 6, dynamicSymbols: 11, versionsNeeded: 0x6ffffffe };
const TAG = { needed: 1, flags: 0x6ffffffb, textRelocations: 22 };
const FLAG_NODELETE = 8;
const FLAG_NOW = 1;

/** Everything that `problemsOf` judges, from the bytes of the file. */
export function readElf(bytes) {
  if (bytes.length < 64 || bytes.readUInt32BE(0) !== 0x7f454c46) throw new Error('not an ELF file');
  if (bytes[4] !== 2 || bytes[5] !== 1) throw new Error('not an ELF file of 64 bits, little-endian');
  const sections = sectionsOf(bytes);
  const dynamic = entriesOf(bytes, sections);
  return {
    arch: MACHINES[bytes.readUInt16LE(18)] ?? `machine ${bytes.readUInt16LE(18)}`,
    needed: dynamic.filter(({ tag }) => tag === TAG.needed).map(({ text }) => text()),
    versions: versionsNeeded(bytes, sections),
    exported: dynamicSymbols(bytes, sections, (section) => section !== 0),
    imported: dynamicSymbols(bytes, sections, (section) => section === 0),
    isStripped: !sections.some(({ type, name }) => type === SECTION.symbols || name.startsWith('.debug')),
    hasTextRelocations: dynamic.some(({ tag }) => tag === TAG.textRelocations),
    bindsAtLoad: dynamic.some(({ tag, value }) => tag === TAG.flags && (value & FLAG_NOW) !== 0),
    staysLoaded: dynamic.some(({ tag, value }) => tag === TAG.flags && (value & FLAG_NODELETE) !== 0),
  };
}

function number(bytes, at) {
  return Number(bytes.readBigUInt64LE(at));
}

function textAt(bytes, at) {
  return bytes.toString('latin1', at, bytes.indexOf(0, at));
}

function sectionsOf(bytes) {
  const [start, size, count] = [number(bytes, 40), bytes.readUInt16LE(58), bytes.readUInt16LE(60)];
  if (start + size * count > bytes.length) throw new Error('truncated: the table of sections is past its end');
  const sections = Array.from({ length: count }, (_, index) => {
    const at = start + index * size;
    return {
      nameAt: bytes.readUInt32LE(at),
      type: bytes.readUInt32LE(at + 4),
      offset: number(bytes, at + 24),
      size: number(bytes, at + 32),
      link: bytes.readUInt32LE(at + 40),
    };
  });
  const names = sections[bytes.readUInt16LE(62)];
  return sections.map((section) => ({ ...section, name: textAt(bytes, names.offset + section.nameAt) }));
}

function entriesOf(bytes, sections) {
  const table = sections.find(({ type }) => type === SECTION.dynamic);
  if (table === undefined) throw new Error('not a shared object');
  const strings = sections[table.link];
  return Array.from({ length: table.size / 16 }, (_, index) => {
    const at = table.offset + index * 16;
    const value = number(bytes, at + 8);
    return { tag: number(bytes, at), value, text: () => textAt(bytes, strings.offset + value) };
  });
}

/** Names whose section is such a one; 0 is of symbols that are defined elsewhere. */
function dynamicSymbols(bytes, sections, isSuch) {
  const table = sections.find(({ type }) => type === SECTION.dynamicSymbols);
  const strings = sections[table.link];
  const names = [];
  for (let at = table.offset + 24; at < table.offset + table.size; at += 24)
    if (isSuch(bytes.readUInt16LE(at + 6))) names.push(textAt(bytes, strings.offset + bytes.readUInt32LE(at)));
  return names;
}

/** For example `GLIBC_2.28`: the versions of symbols that must be there, of all libraries. */
function versionsNeeded(bytes, sections) {
  const table = sections.find(({ type }) => type === SECTION.versionsNeeded);
  if (table === undefined) return [];
  const strings = sections[table.link];
  const versions = new Set();
  for (let at = table.offset, more = true; more;) {
    let auxiliary = at + bytes.readUInt32LE(at + 8);
    for (let left = bytes.readUInt16LE(at + 2); left > 0; left--) {
      versions.add(textAt(bytes, strings.offset + bytes.readUInt32LE(auxiliary + 8)));
      auxiliary += bytes.readUInt32LE(auxiliary + 12);
    }
    const next = bytes.readUInt32LE(at + 12);
    more = next !== 0;
    at += next;
  }
  return [...versions].sort();
}
