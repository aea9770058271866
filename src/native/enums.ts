/**
 * Enums, flags and layouts that native code has too. A name is at the index that is its number there; `test/enums.test.ts` compares
 * both. A layout says at which index of a Float64Array each number stands, in the order of native/binding/layouts.h.
 */

export const STATES = ['live', 'suspended', 'revoked', 'closed'] as const;
export const FILLS = ['zeros', 'ones', 'signal'] as const;
export const SCOPES = ['by-cause', 'page', 'object'] as const;
export const ACCESS = ['base', 'none', 'r', 'rw'] as const;
export const CAUSES = ['none', 'past-end', 'no-space', 'poisoned', 'unknown', 'refused', 'failed', 'no-answer'] as const;
export const VERDICTS = ['fine', 'stray', 'protected', 'read-only', 'lost', 'unsettled'] as const;
/** Names and numbers of fcntl(2)'s F_SEAL_…, the kernel's user ABI. */
export const SEALS = { seal: 0x01, shrink: 0x02, grow: 0x04, write: 0x08, 'future-write': 0x10, exec: 0x20 } as const;
export const WAIT_RESULTS = ['ok', 'not-equal', 'timed-out', 'gone', 'faulted', 'cancelled', 'pending'] as const;
export const EVENT_KINDS = [
  'object-changed',
  'mapping-closed',
  'backing',
  'protection',
  'revoked',
  'displaced',
  'self',
  'refused',
] as const;
export const REGISTER_KINDS = ['rw', 'ro', 'w1c', 'w1s', 'rc', 'counter', 'wo', 'rs', 'wc'] as const;
export const ASKS_READS = 1;
export const ASKS_WRITES = 2;
export const SUPPLIES = ['ask', 'zeros', 'constant', 'image', 'offsets', 'random', 'elsewhere'] as const;
export const FAULT_ANSWERS = ['content', 'as-it-is', 'refused', 'failed', 'no-answer', 'present'] as const;
export const WORK_KINDS = ['fault', 'write-fault', 'expired', 'call', 'mapping-ended', 'access'] as const;
export const WORK_NUMBERS = 10;
export const TRACE_FLAGS = { write: 1, raw: 2, failed: 4 } as const;
export const CALL_RESULTS = ['pending', 'done', 'gone'] as const;

/** Low bits of a status word: the state. 0 as a whole word means live, and never anything else. */
export const STATUS_STATE = 3;
/** Flag of a status word: pages are lost, protected or diverted; ask {@link Native.judge} about the page. */
export const STATUS_MARKED = 4;
/**
 * What is 0 of a live mapping with nothing special. The other bits are a number that is another one whenever what its pages show may have
 * changed: the same word before and after an access says that nothing happened between.
 */
export const STATUS_SPECIAL = STATUS_STATE | STATUS_MARKED;
/** Flag of an object's state: the revocation is complete. */
export const REVOKE_DONE = 0x80;
/** The slot whose word is `closed` for ever. */
export const CLOSED_SLOT = 0;

/** What a revocation or suspension did. */
export const REPORT = { mappings: 0, truncated: 1, replaced: 2, protected: 3, failed: 4, durationUs: 5, size: 6 } as const;
/** A mapping, as native code describes it. */
export const MAPPING = {
  id: 0,
  slot: 1,
  address: 2,
  start: 3,
  objectId: 4,
  offset: 5,
  length: 6,
  writable: 7,
  private: 8,
  fill: 9,
  size: 10,
} as const;
/** What is to be mapped, and where. */
export const MAP_ORDER = {
  at: 0,
  objectId: 1,
  offset: 2,
  length: 3,
  writable: 4,
  private: 5,
  fill: 6,
  populate: 7,
  deviceFile: 8,
  forDevice: 9,
  size: 10,
} as const;
/** What is to be copied. */
export const COPY_ORDER = { id: 0, offset: 1, bytes: 2, failures: 3, size: 4 } as const;
/** How many numbers a call of a device's op has: the op, five arguments, and the thread that calls. */
export const CALL_NUMBERS = 7;
/** The answer to a call of a device's op. */
export const CALL_ANSWER = { result: 0, errno: 1, low: 2, high: 3, size: 4 } as const;
/** An access to a register with a callback. */
export const REGISTER_ACCESS = { write: 0, offset: 1, width: 2, low: 3, high: 4, size: 5 } as const;
/** What stands before the accesses that are taken from a trace. */
export const TRACE_HEAD = { lost: 0, ended: 1, size: 2 } as const;
/** An access in a trace. */
export const TRACE_ACCESS = { time: 0, thread: 1, region: 2, offset: 3, width: 4, flags: 5, low: 6, high: 7, size: 8 } as const;
