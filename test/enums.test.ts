/** What src/native/enums.ts and the C++ sources both say: names in the same order, and the same numbers. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as enums from '../src/native/enums.js';

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
    { ask: 'kAsk', zeros: 'kZeros', constant: 'kConstant', image: 'kImage', offsets: 'kOffsets', random: 'kRandom' },
  ],
  [enums.FAULT_ANSWERS, 'Kind'],
  [enums.WORK_KINDS, 'WorkKind'],
  [enums.CALL_RESULTS, 'CallResult'],
];

it.each(TABLES)('%j are the names of the C++ enum %s', (table, cpp, differ = {}) => {
  const expected = table.map((name, i) => [differ[name] ?? name.replaceAll('-', '_'), i]);
  expect(enumsNamed(cpp)).toContainEqual(expected);
});

it('every table is compared', () => {
  const tables = Object.values(enums).filter((value) => Array.isArray(value));
  expect(TABLES.map(([table]) => table)).toEqual(expect.arrayContaining(tables));
});

it('the flags of a traced access are those of C++', () => {
  const { write, raw, failed } = enums.TRACE_FLAGS;
  expect(SOURCES).toContain(`constexpr uint32_t kWrite = ${write}, kRaw = ${raw}, kFailed = ${failed};`);
});

it.each([
  ['STATUS_STATE', 'kStatusStateMask'],
  ['STATUS_MARKED', 'kStatusMarked'],
  ['STATUS_SPECIAL', 'kStatusSpecial'],
  ['CLOSED_SLOT', 'kClosedSlot'],
  ['WORK_NUMBERS', 'kWorkNumbers'],
  ['TRACE_HEAD', 'kHeadNumbers'],
  ['TRACE_NUMBERS', 'kRecordNumbers'],
] as const)('%s is %s', (name, cpp) => {
  expect(enums[name]).toBe(constant(cpp));
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
