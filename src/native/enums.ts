/**
 * Enums, flags and layouts that native code has too. A name is at the index that is its number there; `test/enums.test.ts` compares
 * both.
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
export const SUPPLIES = ['ask', 'zeros', 'constant', 'image', 'offsets', 'random'] as const;
export const FAULT_ANSWERS = ['content', 'as-it-is', 'refused', 'failed'] as const;
export const WORK_KINDS = ['fault', 'write-fault', 'expired', 'call', 'mapping-ended', 'access'] as const;
export const WORK_NUMBERS = 10;
export const TRACE_HEAD = 2;
export const TRACE_NUMBERS = 8;
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
