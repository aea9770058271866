/** What src/native/enums.ts and the C++ sources both say: names in the same order, and the same numbers. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as enums from '../src/native/enums.js';
import { MOST_DESCRIPTORS } from '../src/native/socket-functions.js';

const NATIVE = join(__dirname, '..', 'native');

/** All C++ text, without comments. */
const SOURCES = readdirSync(NATIVE, { recursive: true, encoding: 'utf8' })
  .filter((file) => /\.(h|cc)$/.test(file))
  .map((file) => readFileSync(join(NATIVE, file), 'utf8').replace(/\/\/.*$/gm, ''))
  .join('\n');

/** The enumerators of every enum with that name ('' for those without), each with its number. */
function enumsNamed(name: string): [string, number][][] {
  const found = SOURCES.matchAll(/\benum\b(?:\s+class)?\s*(\w*)\s*(?::\s*\w+\s*)?\{([^}]*)\}/g);
  return [...found].filter(([, found]) => found === name).map(([, , body]) => enumerators(body));
}

function enumerators(body: string): [string, number][] {
  let next = 0;
  return body
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '')
    .map((each) => {
      const [name, value] = each.split('=').map((part) => part.trim());
      const number = value === undefined ? next : Number(value);
      next = number + 1;
      return [name, number];
    });
}

/** The number of a constexpr, which may be made of others. */
function constant(name: string): number {
  const found = new Set([...SOURCES.matchAll(new RegExp(`\\b${name} = ([^;,]+)[;,]`, 'g'))].map(([, value]) => value.trim()));
  expect([name, ...found]).toHaveLength(2);
  const terms = [...found][0].split('|').map((term) => term.trim());
  return terms.reduce((bits, term) => bits | (/^\d/.test(term) ? Number(term) : constant(term)), 0);
}

/** The C++ enum of each table, and the names that differ: in C++ some are keywords, or say what the public names cannot. */
const TABLES: [table: readonly string[], cpp: string, differ?: Record<string, string>][] = [
  [enums.STATES, 'State'],
  [enums.FILLS, 'Fill', { signal: 'deadly' }],
  [enums.SCOPES, 'FaultScope'],
  [enums.ACCESS, 'Access', { r: 'read', rw: 'read_write' }],
  [enums.CAUSES, 'Cause'],
  [enums.VERDICTS, 'Verdict', { protected: 'protected_' }],
  [enums.WAIT_RESULTS, 'WaitResult', { ok: 'woken' }],
  [
    enums.EVENT_KINDS,
    'EventKind',
    {
      backing: 'fault_backing',
      protection: 'fault_protection',
      revoked: 'fault_revoked',
      self: 'fault_self',
      refused: 'fault_refused',
    },
  ],
  [
    enums.REGISTER_KINDS,
    'RegisterKind',
    {
      rw: 'read_write',
      ro: 'read_only',
      w1c: 'write_one_to_clear',
      w1s: 'write_one_to_set',
      rc: 'read_to_clear',
      wo: 'write_only',
      rs: 'read_to_set',
      wc: 'write_to_clear',
    },
  ],
  [
    enums.SUPPLIES,
    '',
    {
      ask: 'kAsk',
      zeros: 'kZeros',
      constant: 'kConstant',
      image: 'kImage',
      offsets: 'kOffsets',
      random: 'kRandom',
      elsewhere: 'kElsewhere',
    },
  ],
  [enums.FAULT_ANSWERS, 'Kind'],
  [enums.WORK_KINDS, 'WorkKind'],
  [enums.CALL_RESULTS, 'CallResult'],
];

it.each(TABLES)('%j are the names of the C++ enum %s', (table, cpp, differ = {}) => {
  const expected = table.map((name, i) => [differ[name] ?? name.replaceAll('-', '_'), i]);
  expect(enumsNamed(cpp)).toContainEqual(expected);
});

/** The C++ enum of each layout, and the names that C++ cannot have. */
const LAYOUTS: [layout: Record<string, number>, cpp: string, differ?: Record<string, string>][] = [
  [enums.REPORT, 'ReportLayout', { protected: 'protected_' }],
  [enums.MAPPING, 'MappingLayout', { private: 'private_' }],
  [enums.MAP_ORDER, 'MapOrderLayout', { private: 'private_' }],
  [enums.COPY_ORDER, 'CopyOrderLayout'],
  [enums.CALL_ANSWER, 'CallAnswerLayout', { errno: 'errno_' }],
  [enums.REGISTER_ACCESS, 'RegisterAccessLayout'],
  [enums.TRACE_HEAD, 'TraceHeadLayout'],
  [enums.TRACE_ACCESS, 'TraceAccessLayout'],
];

it.each(LAYOUTS)('%j is the layout of the C++ enum %s', (layout, cpp, differ = {}) => {
  const expected = Object.entries(layout).map(([name, i]) => [differ[name] ?? snakeCase(name), i]);
  expect(enumsNamed(cpp)).toEqual([expected]);
});

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

it('the flags of a traced access are those of C++', () => {
  const { write, raw, failed } = enums.TRACE_FLAGS;
  expect({ write, raw, failed }).toEqual({ write: constant('kWrite'), raw: constant('kRaw'), failed: constant('kFailed') });
});

it('the most descriptors of a message are as many in C++', () => {
  expect(MOST_DESCRIPTORS).toBe(constant('kMostDescriptors'));
});

/** Every number, and the C++ constant that says the same. */
const NUMBERS: [number: keyof typeof enums, cpp: string][] = [
  ['STATUS_STATE', 'kStatusStateMask'],
  ['STATUS_MARKED', 'kStatusMarked'],
  ['STATUS_SPECIAL', 'kStatusSpecial'],
  ['CLOSED_SLOT', 'kClosedSlot'],
  ['REVOKE_DONE', 'kRevokeDone'],
  ['ASKS_READS', 'kAsksReads'],
  ['ASKS_WRITES', 'kAsksWrites'],
  ['WORK_NUMBERS', 'kWorkNumbers'],
  ['CALL_NUMBERS', 'kCallNumbers'],
];

it.each(NUMBERS)('%s is %s', (name, cpp) => {
  expect(enums[name]).toBe(constant(cpp));
});

it('the seals are those of the kernel, as far as its header names them', () => {
  const header = readFileSync('/usr/include/linux/fcntl.h', 'utf8');
  const seals = [...header.matchAll(/^#define F_SEAL_(\w+)\s+(0x\w+)/gm)].map(([, name, value]) => {
    return [name.toLowerCase().replaceAll('_', '-'), Number(value)];
  });
  expect(seals.length).toBeGreaterThan(4);
  expect(enums.SEALS).toMatchObject(Object.fromEntries(seals) as object);
});

/** What has a comparison of its own. */
const ELSEWHERE = ['SEALS', 'TRACE_FLAGS'];

it('everything that src/native/enums.ts exports is compared', () => {
  const compared = new Set<unknown>([...TABLES.map(([table]) => table), ...LAYOUTS.map(([layout]) => layout)]);
  const left = Object.entries(enums).filter(([name, value]) => {
    return !compared.has(value) && !NUMBERS.some(([number]) => number === name) && !ELSEWHERE.includes(name);
  });
  expect(left.map(([name]) => name)).toEqual([]);
});

it('every layout of native code is compared', () => {
  const layouts = [...SOURCES.matchAll(/\benum (\w+Layout)\b/g)].map(([, name]) => name);
  expect(layouts.sort()).toEqual(LAYOUTS.map(([, cpp]) => cpp).sort());
});

describe('what the comparison would find', () => {
  it('an order that differs', () => {
    const swapped = enumerators('live = 0, revoked, suspended, closed = 3').map(([name]) => name);
    expect(swapped).not.toEqual([...enums.STATES]);
  });

  it('numbers that are given, and those that follow them', () => {
    expect(enumerators('a, b = 4, c,')).toEqual([
      ['a', 0],
      ['b', 4],
      ['c', 5],
    ]);
  });
});
