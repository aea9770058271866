import type { NativeReport } from '../native/functions.js';

/** What a revocation or suspension did. */
export interface RevokeReport {
  /** Name of the object. */
  object: string;
  /** True for exactly one of all calls, in all threads: the one that did it. */
  revokedByThisCall: boolean;
  /** How many mappings of this process it took the memory from. The same in every report of one revocation. */
  mappings: number;
  /** Microseconds from the gate to the last mapping. */
  durationUs: number;
  means: {
    /** The object was ours and has been truncated to nothing: no process reaches it any more. */
    truncated: boolean;
    /** Mappings replaced by the tombstone, or by a fill where a thread touched them first. */
    replaced: number;
    /** Mappings of which the kernel allowed only PROT_NONE or guard pages, or that the truncation alone had to reach. */
    protected: number;
    /** Mappings that still reach the object: sealed by other code, not ours, on a kernel without guard pages. */
    failed: number;
  };
}

export function toReport(object: string, revokedByThisCall: boolean, counts: NativeReport): RevokeReport {
  const { mappings, durationUs, truncated, replaced, failed } = counts;
  return {
    object,
    revokedByThisCall,
    mappings,
    durationUs,
    means: { truncated, replaced, protected: counts.protected, failed },
  };
}
