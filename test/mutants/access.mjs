/** Defects of accesses, A1 to A9. See revocation.mjs. */
const FILL = 'native/fault/fill_inside.cc';
const BACKING = 'native/fault/backing_inside.cc';
const HANDLER = 'native/fault/handler_inside.cc';
const STATE = 'src/memory/access-state.ts';
const CHECKED = 'src/memory/checked-access.ts';
const COPIES = 'src/memory/checked-copies.ts';
const COPY = 'native/fault/guarded_copy_inside.cc';
const CHAIN = 'native/fault/signal_chain_inside.cc';
const INSTALL = 'native/fault/handler_install.cc';
const MAPPING_PAGES = 'native/core/mapping_pages.cc';
const REVOKER = 'native/core/revoker.cc';
const REGION = 'native/core/mapping_record.h';

export const ACCESS = [
  {
    title: 'A1 read32 does not look at the status word again after its load',
    harm: 'a checked read returns the fill as data',
    changes: [
      [
        'src/memory/fast-reads.ts',
        'if (alwaysLive[words[gate]] !== undefined) return value;',
        'if (value !== undefined) return value;',
      ],
    ],
    tests: [{ jest: 'test/rules/a1-checked-accessors-throw.test.ts' }],
  },
  {
    title: 'A1 read8 does not look at the status word again after its load',
    harm: 'a checked read returns the fill as data',
    changes: [
      [
        CHECKED,
        `        if (status[gate] === before) return value;
        const refusal = this.#refusalAfterLoad(offset, 1);`,
        `        if (before >= 0) return value;
        const refusal = this.#refusalAfterLoad(offset, 1);`,
      ],
    ],
    tests: [{ jest: 'test/rules/a1-checked-accessors-throw.test.ts' }],
  },
  {
    title: 'A1 a write does not look at the status word again',
    harm: 'a checked write into the fill passes for one into memory',
    changes: [
      [
        CHECKED,
        `      if (status[gate] === before) return;
      return this.#afterWrite(offset, 4, value, before);`,
        `      if (before >= 0) return;
      return this.#afterWrite(offset, 4, value, before);`,
      ],
    ],
    tests: [{ jest: 'test/rules/a1-checked-accessors-throw.test.ts' }],
  },
  {
    title: 'A1 a slow access does not look at the status word again',
    harm: 'a checked read returns the fill of a suspension as data',
    changes: [[CHECKED, '      if (this._isSame(word)) return value;', '      if (word >= 0) return value;']],
    tests: [
      { jest: 'test/rules/a1-checked-accessors-throw.test.ts' },
      { jest: 'test/rules/r9-permanent-or-temporary.test.ts' },
      { jest: 'test/rules/a8-read-only.test.ts' },
    ],
  },
  {
    title: 'A1 a suspension that is over leaves no trace in the status word',
    harm: 'a checked read returns the fill of a suspension as data',
    changes: [[REGION, '(counts ? kStatusCountStep : 0);', '(counts && special != 0 ? kStatusCountStep : 0);']],
    tests: [{ native: 'R9 A1' }],
  },
  {
    title: 'A1 protect() counts in the status word as if pages had moved',
    harm: 'copies never end while another thread protects pages',
    changes: [
      [REGION, 'const bool counts = !only_access && shown', 'const bool counts = shown'],
      [
        REGION,
        'inline void publish_state(Mapping* mapping, State state, bool only_access = false) {',
        'inline void publish_state(Mapping* mapping, State state, bool = false) {',
      ],
    ],
    tests: [{ jest: 'test/rules/a4-bulk-copies.test.ts' }, { jest: 'test/rules/a4-asynchronous-copies.test.ts' }],
  },
  {
    title: 'A1 an error has the offset in the object for the one in the mapping',
    harm: 'a program looks at the wrong place',
    changes: [[STATE, '    return { object, offset, objectOffset,', '    return { object, offset: objectOffset, objectOffset,']],
    tests: [{ jest: 'test/rules/a1-checked-accessors-throw.test.ts' }],
  },
  {
    title: 'A2 a fill of ones is zeros',
    harm: 'an absent device looks like one that answers',
    changes: [
      [
        FILL,
        '  if (mapping->fill != Fill::ones) return map_zeros(mapping, start, bytes, prot);\n  return map_ones',
        '  if (mapping->fill != Fill::deadly) return map_zeros(mapping, start, bytes, prot);\n  return map_ones',
      ],
    ],
    tests: [{ native: 'A2' }],
  },
  {
    title: 'A2 the windows of a fill of ones are shared memory',
    harm: 'what one view writes to its fill another one reads',
    changes: [
      [
        FILL,
        'if (!map_over(start + at, part, prot, MAP_PRIVATE, ones_fill_fd(), 0)) return false;',
        'if (!map_over(start + at, part, prot & ~PROT_WRITE, MAP_SHARED, ones_fill_fd(), 0)) return false;',
      ],
    ],
    tests: [{ native: 'A2' }],
  },
  {
    title: 'A2 only the page that was touched gets its fill',
    harm: 'each page of a large mapping costs a mapping of the process',
    changes: [
      [
        FILL,
        '  if (mapping->extent_count == 0) return {mapping->start, mapping->end};\n',
        '  if (mapping->extent_count == 0) {\n    const uintptr_t page = mapping->page_address(mapping->page_of(address));\n    return {page, page + mapping->page_size()};\n  }\n',
      ],
    ],
    tests: [{ native: 'A2' }],
  },
  {
    title: 'A2 a fill does not get the permission that the access needs',
    harm: 'the access faults for ever',
    changes: [
      [
        FILL,
        '  const int prot = PROT_READ | mapping->base_prot() | fault.need();\n  const Range unit = fill_unit(mapping, fault.address);',
        '  const int prot = PROT_READ | mapping->base_prot();\n  const Range unit = fill_unit(mapping, fault.address);',
      ],
    ],
    tests: [{ native: 'A2' }],
  },
  {
    title: 'A2 a fill is never widened for a write',
    harm: 'a write after a read of a read-only view kills',
    changes: [[FILL, '  const int prot = mapping->fill_prot | fault.need();\n', '  const int prot = mapping->fill_prot;\n']],
    tests: [{ native: 'A2' }],
  },
  {
    title: 'A2 the fill that a thread wrote to after the truncation is replaced by the revocation',
    harm: 'a write that was read back once is gone',
    changes: [
      [
        REVOKER,
        'count_means(counts, mapping->filled ? Means::replaced : replace_mapping(mapping, reader, counts->truncated, touched));',
        'count_means(counts, replace_mapping(mapping, reader, counts->truncated, touched && !mapping->filled));',
      ],
    ],
    tests: [{ native: 'A2 what was read back' }],
  },
  {
    title: 'A2 a part of a fill that a thread wrote to after the truncation is replaced by the revocation',
    harm: 'a write that was read back once is gone',
    changes: [
      [
        REVOKER,
        'replace_mapping(mapping, reader, counts->truncated, touched));',
        'replace_mapping(mapping, reader, counts->truncated, touched && mapping->filled));',
      ],
    ],
    tests: [{ native: 'A2' }],
  },
  {
    title: 'A2 a diverted page is taken for a fill that stays',
    harm: 'a revoked view shows what the object held',
    changes: [
      [REVOKER, '    if (keep_fill && !piece.shows_object) return;\n', '    if (keep_fill && !piece.original) return;\n'],
    ],
    tests: [{ native: 'A2 R1 a page' }],
  },
  {
    title: 'A2 the fill of a suspension is replaced by the revocation where it comes in pieces',
    harm: 'a write that was read back once is gone',
    changes: [
      [
        REVOKER,
        'const bool touched = mapping->state.load(std::memory_order_relaxed) != State::live;',
        'const bool touched = mapping->state.load(std::memory_order_relaxed) == State::revoked;',
      ],
    ],
    tests: [{ native: 'A2 R9' }],
  },
  {
    title: 'A2 the extents of a fill that stays are asked for again',
    harm: 'a later write to the fill kills',
    changes: [
      [REVOKER, '  if (mapping->filled_first == SIZE_MAX) {\n', '  if (mapping->filled_first == SIZE_MAX || keep_fill) {\n'],
    ],
    tests: [{ native: 'A2 R9' }],
  },
  {
    title: 'A2 only what has its fill already is replaced',
    harm: 'a revocation that met a thread leaves memory in place',
    changes: [
      [REVOKER, '    if (keep_fill && !piece.shows_object) return;\n', '    if (keep_fill && piece.shows_object) return;\n'],
    ],
    tests: [{ native: 'A2' }],
  },
  {
    title: "A3 a fill of 'signal' is zeros",
    harm: "a harness that tests other people's handlers sees no signal",
    changes: [
      [FILL, '  if (mapping->fill == Fill::deadly) return Outcome::foreign;\n  // A checked copy', '  // A checked copy'],
    ],
    tests: [{ native: 'A3' }],
  },
  {
    title: "A3 a lost page of a mapping with the fill 'signal' is filled",
    harm: "a harness that tests other people's handlers sees no signal",
    changes: [
      [
        BACKING,
        '  if (deadly && fault.raw()) return Outcome::foreign;\n  const bool answered = !deadly &&',
        '  const bool answered = (!deadly || fault.raw()) &&',
      ],
    ],
    tests: [{ native: 'A3' }, { jest: 'test/rules/a3-signal.test.ts' }],
  },
  {
    title: 'A4 the second store of a 64-byte block counts as the first',
    harm: 'bytesTransferred is wrong by 16 where the memory goes between two stores',
    changes: [
      [
        COPY,
        'return pc < at(revocable_copy_store1)   ? at(revocable_copy_chunks_pad)\n           : pc < at(revocable_copy_store2) ? at(revocable_copy_store1_pad)',
        'return pc < at(revocable_copy_store1)   ? at(revocable_copy_chunks_pad)\n           : pc < at(revocable_copy_store2) ? at(revocable_copy_chunks_pad)',
      ],
    ],
    tests: [{ native: 'A4' }],
  },
  {
    title: 'A4 the third store of a 64-byte block counts as the second',
    harm: 'bytesTransferred is wrong by 16 where the memory goes between two stores',
    changes: [
      [
        COPY,
        '           : pc < at(revocable_copy_store3) ? at(revocable_copy_store2_pad)\n',
        '           : pc < at(revocable_copy_store3) ? at(revocable_copy_store1_pad)\n',
      ],
    ],
    tests: [{ native: 'A4' }],
  },
  {
    title: 'A4 the last store of a 64-byte block counts as the third',
    harm: 'bytesTransferred is wrong by 16 where the memory goes between two stores',
    changes: [
      [
        COPY,
        '                                            : at(revocable_copy_store3_pad);\n',
        '                                            : at(revocable_copy_store2_pad);\n',
      ],
    ],
    tests: [{ native: 'A4' }],
  },
  {
    title: 'A4 the second store of a 128-byte block counts as the first',
    harm: 'bytesTransferred is wrong by 32 where the memory goes between two stores',
    changes: [
      [
        COPY,
        '           : pc < at(revocable_copy_wide2) ? at(revocable_copy_wide1_pad)\n',
        '           : pc < at(revocable_copy_wide2) ? at(revocable_copy_wide_pad)\n',
      ],
    ],
    tests: [{ native: 'A4' }],
  },
  {
    title: 'A4 a fault in the words at the end of a copy ends it there',
    harm: 'up to seven bytes that could be copied are not',
    changes: [
      [
        COPY,
        'pc < at(revocable_copy_words_end)) return at(revocable_copy_words_pad);',
        'pc < at(revocable_copy_words_end)) return at(revocable_copy_bytes_pad);',
      ],
    ],
    tests: [{ native: 'A4' }],
  },
  {
    title: 'A4 the fill is mapped while a checked copy is under way',
    harm: 'the copy goes on through the fill and counts it',
    changes: [
      [
        FILL,
        'if (mapping->copiers.load() != 0 && mapping->waits_for_copiers',
        'if (mapping->copiers.load() > 1000 && mapping->waits_for_copiers',
      ],
    ],
    tests: [{ native: 'A4' }, { jest: 'test/rules/a4-bulk-copies.test.ts' }],
  },
  {
    title: 'A4 a copy that is made again is not looked at',
    harm: 'bytes of a suspension pass for data',
    changes: [
      [
        COPIES,
        '    if (copied === bytes && after.limit === bytes && this._isUnmoved(word)) return true;\n',
        '    if (copied === bytes && after.limit === bytes) return true;\n',
      ],
    ],
    tests: [{ jest: 'test/rules/a4-bulk-copies.test.ts' }, { jest: 'test/rules/r9-permanent-or-temporary.test.ts' }],
  },
  {
    title: 'A4 an asynchronous copy is not looked at',
    harm: 'bytes of a suspension pass for data',
    changes: [['native/binding/access.cc', '  copy.real = is_unmoved(copy.mapping, allowance.word);\n', '  copy.real = true;\n']],
    tests: [{ jest: 'test/rules/a4-asynchronous-copies.test.ts' }],
  },
  {
    title: 'A4 the error of a copy in pieces counts its last piece only',
    harm: 'bytesTransferred is too small',
    changes: [
      [
        COPIES,
        "  if (typeof partial.bytesTransferred === 'number') partial.bytesTransferred += done;\n",
        "  if (typeof partial.bytesTransferred === 'number') partial.bytesTransferred += 0 * done;\n",
      ],
    ],
    tests: [{ jest: 'test/rules/a4-bulk-copies.test.ts' }, { jest: 'test/rules/a4-asynchronous-copies.test.ts' }],
  },
  {
    title: 'A4 a copy within one mapping does not look whether its sides overlap',
    harm: 'the target holds bytes that the copy itself has written',
    changes: [
      [
        'native/binding/access.cc',
        '{ return a < b + bytes && b < a + bytes; }',
        '{ return a < b + bytes && b < a + bytes && bytes == 0; }',
      ],
    ],
    tests: [{ jest: 'test/rules/a4-overlapping-copies.test.ts' }],
  },
  {
    title: 'A5 check() does not look at the size of the file',
    harm: 'a file that was cut where no access came is not noticed',
    changes: [
      [
        'src/memory/mapping.ts',
        '    if (past >= 0) throw new BackingFaultError',
        '    if (past < -1) throw new BackingFaultError',
      ],
    ],
    tests: [{ jest: 'test/rules/a7-backing-faults.test.ts', named: 'check() tells' }],
  },
  {
    title: 'A6 a second fault on a revoked page maps a second fill',
    harm: "another thread's write is lost",
    changes: [
      [
        FILL,
        '  if (mapping->filled) return plug_again(mapping, fault);\n',
        '  if (mapping->filled && (mapping->fill_prot & fault.need()) == 0) return plug_again(mapping, fault);\n',
      ],
    ],
    tests: [{ native: 'A6' }],
  },
  {
    title: 'A6 a second fault on a lost page maps a second fill',
    harm: "another thread's write is lost",
    changes: [
      [
        BACKING,
        '  if (lost_has_fill(mapping, page)) return futile(mapping);\n',
        '  if (lost_has_fill(mapping, page) && mapping->trapped) return futile(mapping);\n',
      ],
    ],
    tests: [{ native: 'A7 threads' }, { jest: 'test/rules/a6-no-lost-write.test.ts', named: 'truncated' }],
  },
  {
    title: 'A6 a unit of a fill that is there is mapped again',
    harm: "another thread's write is lost",
    changes: [
      [
        FILL,
        '  if (!has_fill_mark(mapping, unit.start)) {\n',
        '  if (!has_fill_mark(mapping, unit.start) || unit.bytes() != 0) {\n',
      ],
    ],
    tests: [{ native: 'A2' }, { jest: 'test/rules/a6-no-lost-write.test.ts', named: 'windows' }],
  },
  {
    title: 'A6 the handler does not take the claim',
    harm: "two threads' fills replace one another",
    changes: [[HANDLER, '  if (!try_claim(mapping)) {\n', '  if (!try_claim(mapping) && !fault.raw()) {\n']],
    tests: [{ native: 'A6' }],
  },
  {
    title: 'A7 the fill of a lost page is mapped before its status is published',
    harm: "another thread's checked read returns the fill as data",
    changes: [
      [
        BACKING,
        '  mark_lost(mapping, page, cause);\n  publish_state(mapping, State::live);\n  const bool deadly',
        '  mark_lost(mapping, page, cause);\n  const bool deadly',
      ],
      [
        BACKING,
        '  if (answered) bump(g_counters.fills);\n',
        '  publish_state(mapping, State::live);\n  if (answered) bump(g_counters.fills);\n',
      ],
    ],
    tests: [{ native: 'A7' }],
  },
  {
    title: 'A7 a page that was lost is there again when its file has grown',
    harm: 'raw views and checked accesses disagree',
    changes: [
      [
        BACKING,
        '  if (lost != Cause::none) return lost_before(mapping, fault, lost);\n',
        '  if (lost != Cause::none && diagnosis.cause != Cause::none) return lost_before(mapping, fault, lost);\n',
      ],
    ],
    tests: [{ native: 'A7' }],
  },
  {
    title: 'A7 the page that ends where the file ends counts as within it',
    harm: 'past-end is reported as unknown, and the whole object is revoked',
    changes: [[BACKING, 'if (page_offset >= end_of_pages(object, status))', 'if (page_offset > end_of_pages(object, status))']],
    tests: [{ native: 'A7' }],
  },
  {
    title: 'A7 a fault of an unknown cause takes its page only',
    harm: 'pages that are still cached go on swallowing writes',
    changes: [
      [
        BACKING,
        '(scope == FaultScope::by_cause && diagnosis.cause == Cause::unknown);',
        '(scope == FaultScope::by_cause && diagnosis.cause == Cause::poisoned && !fault.raw());',
      ],
    ],
    tests: [
      { jest: 'test/rules/a7-backing-faults.test.ts' },
      { jest: 'test/kernel-cases/revocable.test.ts' },
      { jest: 'test/kernel-cases/guard-regions.test.ts' },
    ],
  },
  {
    title: 'A7 a full file system is not looked for',
    harm: 'no-space is reported as something else',
    changes: [
      [
        BACKING,
        '  const bool full = can_read && fault.write && file_system_full(object->fd);\n',
        '  const bool full = can_read && fault.write && fault.machine == nullptr && file_system_full(object->fd);\n',
      ],
    ],
    tests: [{ native: 'A7' }],
  },
  {
    title: 'A7 a fault on a page that is there again is final',
    harm: 'a file that was cut and grew again loses a page it has',
    changes: [
      [
        BACKING,
        '  if (diagnosis.try_again) return Outcome::handled;\n',
        '  if (diagnosis.try_again && fault.machine == nullptr) return Outcome::handled;\n',
      ],
    ],
    tests: [{ native: 'A7 a file that is truncated' }],
  },
  {
    title: 'A7 revocation by the owner is taken for a fault of the backing',
    harm: 'a peer sees a bad file, not a revocation',
    changes: [
      [
        BACKING,
        'if (mapping->object->gate.load() == State::revoked || diagnosis.revoked_by_owner)\n',
        'if (mapping->object->gate.load() == State::revoked)\n',
      ],
    ],
    tests: [{ native: 'A7 R1' }],
  },
  {
    title: 'A7 a memfd that was only truncated is taken for revoked by its owner',
    harm: 'a file of its own that a program empties is revoked for ever',
    changes: [
      [
        'native/core/registry_inside.cc',
        '         (fcntl(object->fd, F_GET_SEALS) & F_SEAL_GROW) != 0;',
        '         fcntl(object->fd, F_GET_SEALS) >= 0;',
      ],
    ],
    tests: [{ native: 'A7' }, { jest: 'test/kernel-cases/memfd.test.ts' }],
  },
  {
    title: 'A7 the rest of an object is not revoked after the fault of one mapping',
    harm: 'other mappings go on reading a dead device',
    changes: [
      [
        REVOKER,
        '  if (!mapping->object->revoke_wanted.exchange(false)) return nullptr;\n',
        '  if (!mapping->object->revoke_wanted.exchange(false) || mapping->fill != Fill::deadly) return nullptr;\n',
      ],
    ],
    tests: [{ native: 'A7 with the scope' }],
  },
  {
    title: 'A7 lost pages are forgotten by a suspension',
    harm: 'a page that was lost is there again, without zap()',
    changes: [
      [
        REVOKER,
        '  if (!keep_fill) forget_fill(mapping);\n',
        '  if (!keep_fill) clear_marks(mapping, mapping->lost_first, mapping->lost_last, kMarkCauseMask);\n  if (!keep_fill) forget_fill(mapping);\n',
      ],
    ],
    tests: [{ native: 'R9 a page lost' }],
  },
  {
    title: 'A7 a page that was lost without a place for it takes only itself away',
    harm: 'at the limit of mappings a raw access kills',
    changes: [[BACKING, '  if (cause != Cause::past_end) return false;\n', '  if (cause != Cause::poisoned) return false;\n']],
    tests: [{ native: 'A7 a file with no room' }],
  },
  {
    title: 'A7 check() does not know of bytes of the last page that were cut off',
    harm: 'zeros that were never in the file pass for its bytes',
    changes: [
      [
        MAPPING_PAGES,
        '  const uint64_t known_to = std::max(size, std::min(mapping->seen_size.load(), end_of_page));\n',
        '  const uint64_t known_to = end_of_page == 0 ? end_of_page : size;\n',
      ],
    ],
    tests: [{ jest: 'test/rules/a7-cut-last-page.test.ts' }],
  },
  {
    title: 'A7 zap() does not bring lost pages back',
    harm: 'a file that has recovered is never seen again',
    changes: [
      [
        REVOKER,
        '    return restore_lost_pages(mapping, first, count);\n',
        '    return mapping->device_mapping != nullptr ? restore_lost_pages(mapping, first, count) : Failure{};\n',
      ],
    ],
    tests: [{ jest: 'test/rules/a7-way-back.test.ts' }, { native: 'A7 zap' }],
  },
  {
    title: 'A8 a forbidden write is diverted to the object itself',
    harm: 'a read-only mapping writes to its file',
    changes: [
      [
        'native/fault/protection_inside.cc',
        'return map_over(address, mapping->page_size(), prot, MAP_PRIVATE, object->fd, offset);',
        'return map_over(address, mapping->page_size(), prot, MAP_SHARED, object->fd, offset);',
      ],
    ],
    tests: [{ native: 'A8' }],
  },
  {
    title: 'A8 a diverted page is never put back',
    harm: 'raw readers see the stray write for ever',
    changes: [
      [
        REVOKER,
        '    const Claim claim(mapping);\n    settle_strays_claimed(mapping);\n  }\n',
        '    const Claim claim(mapping);\n  }\n',
      ],
    ],
    tests: [{ native: 'A8' }],
  },
  {
    title: 'A8 a page is put back with all permissions',
    harm: 'the second forbidden write reaches the object',
    changes: [
      [
        MAPPING_PAGES,
        '      if (!put_back(mapping, page, prot_of(mark_access(mark), *mapping))) {\n',
        '      if (!put_back(mapping, page, PROT_READ | PROT_WRITE)) {\n',
      ],
    ],
    tests: [{ native: 'A8' }],
  },
  {
    title: 'A8 the diverted page of a private mapping is replaced',
    harm: "the mapping's own copy is lost",
    changes: [
      [
        'native/fault/protection_inside.cc',
        '  if (mapping->has_own_copies()) return mprotect(',
        '  if (mapping->has_own_copies() && mapping->trapped) return mprotect(',
      ],
    ],
    tests: [{ native: 'A8 a private' }],
  },
  {
    title: 'A8 a checked read does not put a diverted page back first',
    harm: 'it returns the stray write',
    changes: [
      [
        MAPPING_PAGES,
        '    if ((mark & kMarkStray) != 0) {\n      return {settle_strays',
        '    if ((mark & kMarkStray) != 0 && write) {\n      return {settle_strays',
      ],
    ],
    tests: [{ jest: 'test/rules/a8-read-only.test.ts' }],
  },
  {
    title: 'A8 a checked write does not look whether the page may be written',
    harm: 'it is diverted, and passes for made',
    changes: [
      [
        MAPPING_PAGES,
        'if (write && mark_access(mark) == Access::read) return {Verdict::read_only, Cause::none, from};',
        'if (write && mark_access(mark) == Access::none) return {Verdict::read_only, Cause::none, from};',
      ],
    ],
    tests: [{ jest: 'test/memory/protect.test.ts' }],
  },
  {
    title: 'A9 a signal of kill(2) is taken for a fault',
    harm: 'kill -BUS is swallowed, or touches a mapping by chance',
    changes: [[HANDLER, '  if (!is_memory_fault(signal, info->si_code)) return Outcome::foreign;\n', '']],
    tests: [{ native: 'A9' }],
  },
  {
    title: 'A9 errno is not kept through a fault',
    harm: "a system call's error is another one after a signal",
    changes: [[HANDLER, '  errno = saved_errno;\n', '  (void)saved_errno;\n']],
    tests: [{ native: 'A9 errno' }],
  },
  {
    title: 'A9 an ignored signal that was sent kills',
    harm: 'a program that ignores SIGBUS dies of kill -BUS',
    changes: [[CHAIN, '  if (ignored && sent) return;\n', '']],
    tests: [{ native: 'A9 over SIG_IGN' }],
  },
  {
    title: 'A9 a previous handler with SA_RESETHAND is called again and again',
    harm: 'a fault that should kill loops',
    changes: [
      [
        CHAIN,
        'table.spent[index].exchange(true, std::memory_order_relaxed);',
        'table.spent[index].exchange(false, std::memory_order_relaxed);',
      ],
    ],
    tests: [{ native: 'A9 over' }],
  },
  {
    title: 'A9 a previous handler runs with the mask of ours',
    harm: 'it is interrupted where it would not be, or not where it would',
    changes: [[CHAIN, '  pthread_sigmask(SIG_SETMASK, &mask, &ours);\n', '  pthread_sigmask(SIG_BLOCK, nullptr, &ours);\n']],
    tests: [{ native: 'A9' }],
  },
  {
    title: 'A9 a newcomer that chains back is called again by us',
    harm: 'a signal loops between two handlers for ever',
    changes: [
      [
        CHAIN,
        'invoke(table, fresh ? current : 0, signal, info, context);',
        'invoke(table, fresh || current != 0 ? current : 0, signal, info, context);',
      ],
    ],
    tests: [{ native: 'A9' }],
  },
  {
    title: 'A9 the watchdog does not look',
    harm: 'a displaced handler is not put back',
    changes: [[INSTALL, '  if (!failure) service_set_watchdog(handlers_check);\n', '']],
    tests: [{ jest: 'test/rules/a9-strangers.test.ts', named: 'repaired while' }],
  },
  {
    title: 'A9 map() does not look whether the handler is in place',
    harm: 'the first access of a new mapping may kill',
    changes: [[INSTALL, '  if (g_installed) return repair();\n', '  if (g_installed) return {};\n']],
    tests: [{ jest: 'test/rules/a9-strangers.test.ts', named: 'by the next map()' }],
  },
  {
    title: 'A9 every thread warns of a displacement',
    harm: 'a process with ten workers warns eleven times',
    changes: [['native/binding/observation.cc', '!claimed.exchange(true));', 'claimed.exchange(true) || true);']],
    tests: [{ jest: 'test/rules/a9-strangers.test.ts', named: 'warn' }],
  },
  {
    title: 'A9 a handler of another copy of the library is displaced',
    harm: 'two copies displace one another for ever',
    changes: [[INSTALL, '!is_ours(signal, now) && !is_sibling(now);', '!is_ours(signal, now) && (true || !is_sibling(now));']],
    tests: [{ jest: 'test/rules/l3-threads-and-exit.test.ts', named: 'another copy' }],
  },
];
