/** Defects of revocation, R1 to R12. Each: `changes`, of which the text to be found is in its file once, and tests of which one must fail. */
const MEMFD = 'native/base/memfd.cc';
const REVOKER = 'native/core/revoker.cc';
const MAPPING = 'native/core/mapping.cc';
const MAPPING_PAGES = 'native/core/mapping_pages.cc';
const WAITS = 'native/core/wait_list.cc';
const REGISTRY = 'native/core/registry.cc';
const TABLE = 'native/core/mapping_table.cc';

export const REVOCATION = [
  {
    title: 'R1 the tombstone is not sealed',
    harm: 'one ftruncate through its descriptor un-revokes everything',
    changes: [
      [
        MEMFD,
        'return add_seals(fd, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);',
        'return fd >= 0 ? Failure{} : Failure{EBADF, "fcntl"};',
      ],
    ],
    tests: [{ native: 'R1 the tombstone' }],
  },
  {
    title: 'R1 the tombstone can be given other seals, which lets it be sealed against writing',
    harm: 'no mapping can be replaced by it any more',
    changes: [[MEMFD, 'add_seals(fd, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)', 'add_seals(fd, F_SEAL_GROW | F_SEAL_SHRINK)']],
    tests: [{ native: 'R1 the tombstone' }],
  },
  {
    title: 'R1 owned memory is not truncated',
    harm: 'other processes keep it',
    changes: [[REGISTRY, 'return ftruncate(fd, 0) == 0;', 'return true;']],
    tests: [{ native: 'R1 another process' }],
  },
  {
    title: 'R1 a descriptor that was closed and used again is truncated',
    harm: "the user's own file is emptied",
    changes: [
      [REGISTRY, 'if (!object->owned || !is_file_of(object, fd, &size)) return false;', 'if (!object->owned) return false;'],
    ],
    tests: [{ native: 'R1 an owned object whose descriptor' }],
  },
  {
    title: 'R1 owned memory is sealed against shrinking',
    harm: 'it cannot be revoked in other processes',
    changes: [
      [
        REGISTRY,
        'add_seals(fd, F_SEAL_GROW | F_SEAL_SEAL | memory.seals)',
        'add_seals(fd, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL | memory.seals)',
      ],
    ],
    tests: [{ native: 'R1 another process' }],
  },
  {
    title: 'R1 owned memory can be given seals by others',
    harm: 'a peer seals it against shrinking, and keeps it',
    changes: [[REGISTRY, 'add_seals(fd, F_SEAL_GROW | F_SEAL_SEAL | memory.seals)', 'add_seals(fd, F_SEAL_GROW | memory.seals)']],
    tests: [{ jest: 'test/rules/r1-reach.test.ts' }],
  },
  {
    title: 'R1 suspended mappings are left out of a revocation',
    harm: 'they come back by resume()',
    changes: [[REVOKER, '    drain_list(&lock, object, &object->suspended, pace, take);\n', '    break;\n']],
    tests: [{ native: 'R9 revoking while suspended' }],
  },
  {
    title: 'R2 a mapping is unmapped before the tombstone takes its place',
    harm: 'a reader in that moment dies of SIGSEGV, or another thread maps something there',
    changes: [
      [
        REVOKER,
        '  do {\n    if (mmap(at, bytes, prot, MAP_SHARED',
        '  munmap(at, bytes);\n  do {\n    if (mmap(at, bytes, prot, MAP_SHARED',
      ],
    ],
    tests: [{ native: 'R1 R2 no thread' }],
  },
  {
    title: 'R2 the status word follows the replacement instead of preceding it',
    harm: 'a checked read returns the fill as data',
    changes: [
      [
        REVOKER,
        `  publish_state(mapping, State::revoked);
  count_means(counts,`,
        `  count_means(counts,`,
      ],
      [
        REVOKER,
        '  wake_waiters(mapping);\n  drop(before',
        '  publish_state(mapping, State::revoked);\n  wake_waiters(mapping);\n  drop(before',
      ],
    ],
    tests: [{ native: 'R1 R2' }],
  },
  {
    title: 'R3 the tombstone has the protection of the mapping, not of each page',
    harm: 'debuggers and /proc/self/maps show another shape',
    changes: [
      [
        REVOKER,
        'if (piece.original && !mapping->trapped) return piece.vma.prot;',
        'if (piece.original && !mapping->trapped) return mapping->base_prot();',
      ],
    ],
    tests: [{ native: 'R3 address' }],
  },
  {
    title: 'R3 the tombstone is mapped from its beginning',
    harm: 'the offsets in /proc/self/maps are lost',
    changes: [
      [
        REVOKER,
        'static_cast<off_t>(piece.vma.inode == 0 ? 0 : piece.vma.offset)',
        'static_cast<off_t>(piece.vma.inode == 0 ? piece.vma.offset : 0)',
      ],
    ],
    tests: [{ native: 'R3 address' }],
  },
  {
    title: 'R4 a mapping is replaced by zeros, not by the tombstone',
    harm: 'fs.writeSync writes zeros without an error',
    changes: [
      [
        REVOKER,
        'if (mmap(at, bytes, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, tombstone_fd(), offset) != MAP_FAILED)',
        'if (offset >= 0 && mmap(at, bytes, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)',
      ],
    ],
    tests: [{ native: 'R4 before any touch' }],
  },
  {
    title: 'R5 the gate is shut after the memory is truncated and replaced',
    harm: 'a map() that races the revocation stays live',
    changes: [
      [REVOKER, '  set_gate_locked(object, State::revoked);\n  return !object', '  return !object'],
      [
        REVOKER,
        '  const RevokeCounts counts = take_all_mappings(object,',
        '  const RevokeCounts counts = take_all_mappings_late(object,',
      ],
      [
        REVOKER,
        '}  // namespace\n\nbool revoke_is_brief(',
        `RevokeCounts take_all_mappings_late(Object* object, Pace pace) {
  truncate_owned(object);
  {
    RegistryLock lock;
    set_gate_locked(object, State::revoked);
  }
  return take_all_mappings(object, pace);
}

}  // namespace

bool revoke_is_brief(`,
      ],
    ],
    tests: [{ jest: 'test/rules/r5-gate.test.ts', named: 'first instant' }],
  },
  {
    title: 'R5 native code does not look at the gate when it maps',
    harm: 'a map() that races the revocation stays live',
    changes: [
      [
        MAPPING,
        'if (!request.for_device || state != State::suspended) failure = refusal(state, "mmap");',
        'if (state == State::closed) failure = refusal(state, "mmap");',
      ],
    ],
    tests: [{ native: 'R5' }],
  },
  {
    title: 'R5 the words of the mappings do not follow the gate',
    harm: 'state says revoked, and a checked read returns a value',
    changes: [
      [
        REGISTRY,
        'mapping != nullptr; mapping = mapping->next) follow_gate(mapping);',
        'mapping != nullptr; mapping = mapping->next) (void)mapping;',
      ],
    ],
    tests: [{ jest: 'test/rules/one-truth-about-state.test.ts' }],
  },
  {
    title: 'R9 a file is mapped over a range in one step, whatever its driver says',
    harm: 'a driver that refuses leaves a hole, in which another mmap may land',
    changes: [
      [
        MAPPING_PAGES,
        '  if (may_be_refused(object)) return map_file_over(',
        '  if (may_be_refused(object) && mapping->trapped) return map_file_over(',
      ],
    ],
    tests: [{ jest: 'test/memory/refused-by-driver.test.ts' }],
  },
  {
    title: 'R6 revoke() of a region does not wait for its ops',
    harm: 'an op still runs after the promise has resolved',
    changes: [['src/memory/memory-object.ts', '    await drained?.();\n', '    void drained;\n']],
    tests: [{ jest: 'test/device/faults.test.ts', named: 'await object.revoke()' }],
  },
  {
    title: 'R6 an answer after the gate of a removal is taken',
    harm: 'a page of a device that has been unplugged reaches its user',
    changes: [
      [
        'native/device/pager.cc',
        'take_request(token, &request) && !request.device->removed.load() &&',
        'take_request(token, &request) &&',
      ],
    ],
    tests: [{ native: 'R6 an answer' }],
  },
  {
    title: 'R6 late answers are matched by the slot of the mapping, not by its generation',
    harm: 'an answer lands in another mapping, which got the slot',
    changes: [
      [
        'native/device/pager.cc',
        'if (mapping == nullptr || mapping->generation != request.generation) return false;',
        'if (mapping == nullptr) return false;',
      ],
    ],
    tests: [{ native: 'R6 an answer' }],
  },
  {
    title: 'R6 the end of a mapping is reported twice',
    harm: "the device's close op is called twice",
    changes: [
      [
        'native/device/device.cc',
        '    MappingEnd* end = device_mapping->end.release();\n',
        '    MappingEnd* end = new MappingEnd(*device_mapping->end);\n',
      ],
    ],
    tests: [{ native: 'R6 a mapping' }],
  },
  {
    title: 'R6 a closed mapping does not tell its device',
    harm: 'the close op is never called',
    changes: [[MAPPING, '    if (mapping->ops != nullptr) mapping->ops->ended(mapping, true);\n', '']],
    tests: [{ native: 'R6 a mapping' }],
  },
  {
    title: 'R7 the ladder ends at its first step',
    harm: 'live memory remains where the kernel refuses a mapping',
    changes: [[REVOKER, '  if (mprotect(at, bytes, PROT_NONE) == 0) return Means::protected_;\n', '']],
    tests: [{ native: 'R7 RLIMIT_AS exceeded' }],
  },
  {
    title: 'R7 guard pages are not tried',
    harm: 'sealed memory stays live where it need not',
    changes: [
      [REVOKER, '  if (features().guard && madvise(at, bytes, abi::kMadvGuardInstall) == 0) return Means::protected_;\n', ''],
    ],
    tests: [{ native: 'R7 a sealed range of memory' }],
  },
  {
    title: 'R7 the ballast is never given back',
    harm: 'at the limit of mappings revocation and fills fail',
    changes: [
      [
        'native/core/reserve_inside.cc',
        'if (ballast == nullptr || index + keep >= kBallast) return false;',
        'if (ballast == nullptr || index + keep < kBallast || true) return false;',
      ],
    ],
    tests: [{ native: 'R7 the map count' }],
  },
  {
    title: 'R7 single pages may use up all of the ballast',
    harm: 'nothing is left for a whole fill',
    changes: [
      ['native/fault/fill_inside.cc', 'const size_t keep = bytes <= kPageSize ? kBallast / 2 : 0;', 'const size_t keep = 0;'],
    ],
    tests: [{ native: 'map count' }],
  },
  {
    title: 'R7 the pages of last resort are never used',
    harm: 'where RLIMIT_AS is exceeded a raw access kills',
    changes: [
      [
        'native/fault/fill_inside.cc',
        '  if (!plug_from_reserve(mapping, page)) return Plugged::not_at_all;\n',
        '  if (page != 0) return Plugged::not_at_all;\n  plug_from_reserve(mapping, page);\n',
      ],
    ],
    tests: [{ native: 'R7 RLIMIT_AS exceeded' }],
  },
  {
    title: 'R7 a fill has no second way where private memory is refused',
    harm: 'where RLIMIT_DATA is exceeded a raw access kills',
    changes: [
      [
        'native/fault/fill_inside.cc',
        '  if (!map_over(start, bytes, prot, MAP_SHARED, zero_fill_fd(), start)) return false;\n',
        '  if (start != 0) return false;\n',
      ],
    ],
    tests: [{ native: 'R7 RLIMIT_DATA exceeded' }],
  },
  {
    title: "R7 a fill from the file of zeros has not its range's own offset",
    harm: 'the fills of two mappings alias',
    changes: [
      [
        'native/fault/fill_inside.cc',
        '  if (!map_over(start, bytes, prot, MAP_SHARED, zero_fill_fd(), start)) return false;\n',
        '  if (!map_over(start, bytes, prot, MAP_SHARED, zero_fill_fd(), 0)) return false;\n',
      ],
    ],
    tests: [{ native: 'R7 RLIMIT_DATA exceeded' }],
  },
  {
    title: 'R7 the fill of ones can be written to',
    harm: 'later fills of ones are wrong',
    changes: [
      [MEMFD, 'F_SEAL_GROW | F_SEAL_SHRINK | abi::kSealFutureWrite | F_SEAL_SEAL', 'F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL'],
    ],
    tests: [{ native: 'A2 the fill of ones' }],
  },
  {
    title: 'R7 that nothing can be mapped over a range is forgotten',
    harm: 'a checked read of sealed memory dies',
    changes: [[REVOKER, '  mapping->unfillable = sealed;\n', '  mapping->unfillable = false;\n']],
    tests: [{ native: 'R7' }, { jest: 'test/kernel-cases/mseal.test.ts' }],
  },
  {
    title: 'R7 memory that still reaches the object is counted as protected',
    harm: 'the report lies',
    changes: [
      [REVOKER, 'return truncated ? Means::protected_ : Means::failed;', 'return truncated ? Means::failed : Means::protected_;'],
    ],
    tests: [{ native: 'R7' }],
  },
  {
    title: 'R8 every call reports that it revoked',
    harm: 'two callers clean up after one device',
    changes: [
      [REVOKER, '  return !object->revoke_taken.exchange(true);\n', '  object->revoke_taken.store(true);\n  return true;\n'],
    ],
    tests: [{ native: 'R8' }],
  },
  {
    title: 'R8 a second call does not wait for the first',
    harm: 'it returns while memory is still reached',
    changes: [
      [
        REVOKER,
        '  while (object->revoke_done.load() == 0 && !never_revoked(object)) {',
        '  while (false && !never_revoked(object)) {',
      ],
    ],
    tests: [{ native: 'R8' }],
  },
  {
    title: 'R8 an asynchronous second call does not wait for the first',
    harm: 'its promise resolves while memory is still reached',
    changes: [
      [
        REVOKER,
        '    if (object->revoke_done.load() == 0 && !never_revoked(object)) {\n',
        '    if (object->revoke_done.load() == 2 && !never_revoked(object)) {\n',
      ],
    ],
    tests: [{ jest: 'test/rules/r8-idempotent.test.ts' }],
  },
  {
    title: 'R9 resume forgets protections',
    harm: 'what protect() forbade is allowed after it',
    changes: [
      [REVOKER, 'piece->end - piece->start, piece->prot) != 0)', 'piece->end - piece->start, mapping->base_prot()) != 0)'],
    ],
    tests: [{ native: 'R9 R3' }],
  },
  {
    title: 'R9 resume puts back consecutive pages, whatever was rearranged',
    harm: 'views show other pages of the object',
    changes: [
      [
        REVOKER,
        '  const uint64_t offset = object_offset_at(mapping, first->start);\n',
        '  const uint64_t offset = mapping->object_offset + (first->start - mapping->start);\n',
      ],
    ],
    tests: [{ native: 'R9 R3' }],
  },
  {
    title: 'R9 objects with private mappings are suspended',
    harm: "the mapping's own copies are lost",
    changes: [
      [
        REVOKER,
        '    if (mapping->private_copy) return {EBUSY, "mmap"};\n',
        '    if (mapping->private_copy && mapping->trapped) return {EBUSY, "mmap"};\n',
      ],
    ],
    tests: [{ native: 'R9 an object with a private' }],
  },
  {
    title: 'R9 resume keeps the record that the fill was reported',
    harm: 'after suspend, touch, resume, revoke, touch no fault is published',
    changes: [
      [
        REVOKER,
        'mapping->unfillable = mapping->weak = mapping->announced = false;',
        'mapping->unfillable = mapping->weak = false;',
      ],
    ],
    tests: [{ native: 'R9 each phase' }, { jest: 'test/rules/r9-permanent-or-temporary.test.ts' }],
  },
  {
    title: 'R9 resume leaves the count of retries as it was',
    harm: 'a page that comes and goes is taken for lost too soon',
    changes: [
      [
        REVOKER,
        '  mapping->retry_tag.store(0, std::memory_order_relaxed);  // a thread that faulted while it was away may try again\n',
        '',
      ],
    ],
    tests: [{ native: 'R9 each phase' }],
  },
  {
    title: 'R9 the fill of a suspension stays after resume',
    harm: 'writes of the suspension are read as data',
    changes: [[REVOKER, '  mapping->extent_count = 0;\n  forget_fill(mapping);\n', '  mapping->extent_count = 0;\n']],
    tests: [{ native: 'R9' }],
  },
  {
    title: 'R9 resume() of a revoked object gives its memory back',
    harm: 'revocation is not for ever',
    changes: [[REVOKER, '    if (object->gate.load() != State::suspended) return {ENODEV, "mmap"};\n', '']],
    tests: [{ native: 'R9 a revoke in the middle' }],
  },
  {
    title: 'R10 a foreign mapping inside the range is replaced too',
    harm: "another library's memory is destroyed",
    changes: [
      [MAPPING, '    else if (is_own_file(vma)) visit({vma, false});\n', '    else if (vma.inode != 0) visit({vma, false});\n'],
    ],
    tests: [{ native: 'R10' }],
  },
  {
    title: 'R10 the fill covers a foreign mapping inside the range',
    harm: "another library's memory is destroyed at a first touch",
    changes: [
      [
        REVOKER,
        '  if (covered != mapping->end) remember_extents(mapping, reader);\n',
        '  if (covered != mapping->end && counts_nothing()) remember_extents(mapping, reader);\n',
      ],
      [
        REVOKER,
        '// Where other code mapped something into the range, the fill must spare it too.\n',
        'bool counts_nothing() { return false; }\n',
      ],
    ],
    tests: [{ native: 'A2 R10' }],
  },
  {
    title: 'R10 only the first of the own pieces is remembered',
    harm: 'raw accesses behind a strange page kill',
    changes: [[REVOKER, '    ++mapping->extent_count;\n', '    mapping->extent_count = 1;\n']],
    tests: [{ native: 'A2 R10' }],
  },
  {
    title: 'R11 threads that wait for a page are not woken when it is replaced',
    harm: 'they hang for ever',
    changes: [['native/device/pager.cc', '  userfault_wake(mapping->start, mapping->end - mapping->start);\n', '']],
    tests: [{ native: 'R11 a thread blocked in a page that never comes is released by revoke' }],
  },
  {
    title: 'R11 threads that wait for a page are woken before it is replaced',
    harm: 'they fault again, and hang or read what was there',
    changes: [
      [
        REVOKER,
        '  publish_state(mapping, State::revoked);\n  count_means',
        '  publish_state(mapping, State::revoked);\n  if (mapping->ops != nullptr) mapping->ops->ended(mapping, true);\n  count_means',
      ],
      [
        REVOKER,
        '  if (mapping->ops != nullptr) mapping->ops->ended(mapping, true);\n  wake_waiters(mapping);\n  drop(before',
        '  wake_waiters(mapping);\n  drop(before',
      ],
    ],
    tests: [{ native: 'R11' }],
  },
  {
    title: 'R11 waiters are not woken through the status word',
    harm: 'a wait never ends though its mapping is gone',
    changes: [
      [REVOKER, 'if (mapping->waiters.load() != 0) futex_wake_shared(&status_words()[mapping->slot]);', '(void)mapping;'],
    ],
    tests: [{ native: 'R11' }],
  },
  {
    title: 'R11 a wait that is cancelled is not woken',
    harm: 'a wait with an AbortSignal goes on until something else ends it',
    changes: [[WAITS, '  waiter->own.fetch_add(1);\n  futex_wake_private(&waiter->own);\n}', '  waiter->own.fetch_add(1);\n}']],
    tests: [{ native: 'R11 a wait on a thread' }, { jest: 'test/rules/r11-wakes.test.ts', named: 'an AbortSignal ends' }],
  },
  {
    title: 'R11 a wait that is cancelled just before it sleeps is not woken',
    harm: 'a wait with an AbortSignal goes on until something else ends it',
    changes: [
      [
        WAITS,
        '    if (own != 0) return is_cancelled(waiter) ? WaitResult::cancelled : WaitResult::woken;\n',
        '    if (own != 0 && !is_cancelled(waiter)) return WaitResult::woken;\n',
      ],
    ],
    tests: [{ native: 'R11' }, { jest: 'test/rules/r11-wakes.test.ts', named: 'an AbortSignal ends' }],
  },
  {
    title: 'R11 the status word is read after the thread has been set to sleep on it',
    harm: 'a wake-up is lost between the look and the sleep',
    changes: [
      [
        WAITS,
        '{status, reinterpret_cast<uintptr_t>(status_word), abi::kFutex32, 0},',
        '{status_word->load(), reinterpret_cast<uintptr_t>(status_word), abi::kFutex32, 0},',
      ],
      [
        WAITS,
        'long sleep_on_words(const Waiter* waiter, uint32_t status, uint32_t own, uint64_t deadline_ns) {\n',
        'long sleep_on_words(const Waiter* waiter, uint32_t, uint32_t own, uint64_t deadline_ns) {\n',
      ],
    ],
    tests: [{ native: 'R11 no waiter' }],
  },
  {
    title: 'R11 wake() tells all of this process, whatever its count',
    harm: 'threads wake that were not meant',
    changes: [[WAITS, '      if (notified == count) return notified;\n', '']],
    tests: [{ native: 'R11 wake wakes' }],
  },
  {
    title: 'R11 wake() does not look which word a thread waits for',
    harm: 'threads wake that were not meant',
    changes: [
      [
        WAITS,
        'if (waiter->notified || waiter->object != object || waiter->object_offset != object_offset) continue;',
        'if (waiter->notified || waiter->object != object) continue;',
      ],
      [WAITS, '  const uint64_t object_offset = object_offset_of(mapping, offset);\n  uint32_t notified', '  uint32_t notified'],
    ],
    tests: [{ native: 'R11 wake wakes' }],
  },
  {
    title: 'R11 the abort listener of a wait stays',
    harm: 'a leak on a signal that lives long',
    changes: [['src/memory/futex-waits.ts', "    signal?.removeEventListener('abort', cancel);\n", '']],
    tests: [{ jest: 'test/memory/wait-listeners.test.ts' }],
  },
  {
    title: 'R11 the abort listener of a wait for a page stays',
    harm: 'a leak on a signal that lives long',
    changes: [['src/memory/futex-waits.ts', "    signal?.removeEventListener('abort', stop);\n", '']],
    tests: [{ jest: 'test/memory/wait-listeners.test.ts' }],
  },
  {
    title: 'R12 close() leaves the memory in the range',
    harm: 'a stale view reads and writes the object',
    changes: [[MAPPING, '    wake_waiters(mapping);\n    leave_zeros(mapping);\n', '    wake_waiters(mapping);\n']],
    tests: [{ native: 'R12' }],
  },
  {
    title: 'R12 a closed range leaves the table at once',
    harm: 'a fault in flight is taken for a stranger’s, and kills',
    changes: [[TABLE, 'constexpr size_t kClosedKept = 1024;', 'constexpr size_t kClosedKept = 0;']],
    tests: [{ native: 'R12' }],
  },
  {
    title: 'R12 the generation of a slot stays as it was',
    harm: 'a handle of a closed mapping attaches to another one',
    changes: [[TABLE, '  ++mapping->generation;\n', '  if (mapping->generation == 0) mapping->generation = 1;\n']],
    tests: [{ jest: 'test/rules/r12-no-aliasing.test.ts' }, { native: 'R12' }, { jest: 'test/memory/share.test.ts' }],
  },
  {
    title: 'R12 what was written to the fill of a closed range is not forgotten',
    harm: 'a later mapping there reads it',
    changes: [[TABLE, '  if (mapping->used_zero_file) {\n', '  if (mapping->used_zero_file && mapping->trapped) {\n']],
    tests: [{ native: 'R12' }],
  },
  {
    title: 'R12 the zero file is not emptied when a range is closed into it',
    harm: 'a stale view reads what was written to the fill before',
    changes: [
      [
        MAPPING,
        '  fallocate(zero_fill_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(start), static_cast<off_t>(bytes));\n',
        '',
      ],
    ],
    tests: [{ native: 'R12' }, { native: 'R7' }],
  },
  {
    title: 'R12 a record is recycled while a handler may hold it',
    harm: 'a fault is settled by the record of another mapping',
    changes: [[TABLE, '  if (g_table.inside[before].load() != 0) return;\n', '']],
    tests: [{ native: 'a record is recycled' }],
  },
  {
    title: 'R12 the lookup ends one page late',
    harm: 'a fault of the neighbour is taken for ours',
    changes: [
      [
        'native/core/mapping_table_inside.cc',
        'return address >= entry.start && address < entry.end ? entry.mapping : nullptr;',
        'return address >= entry.start && address < entry.end + kPageSize ? entry.mapping : nullptr;',
      ],
    ],
    tests: [{ native: 'the table finds' }],
  },
  {
    title: 'R12 the lookup ends one page early',
    harm: 'a fault in the last page kills',
    changes: [
      [
        'native/core/mapping_table_inside.cc',
        'return address >= entry.start && address < entry.end ? entry.mapping : nullptr;',
        'return address >= entry.start && address < entry.end - kPageSize ? entry.mapping : nullptr;',
      ],
    ],
    tests: [{ native: 'the table finds' }],
  },
  {
    title: 'R12 the lookup among chunks misses the first of each',
    harm: 'with more than 512 mappings some faults kill',
    changes: [
      [
        'native/core/mapping_table_inside.cc',
        '    if (directory->items[middle].first <= address) low = middle;',
        '    if (directory->items[middle].first < address) low = middle;',
      ],
    ],
    tests: [{ native: 'the table finds' }],
  },
  {
    title: 'zap does not take the claim',
    harm: 'it lets pages go that a revocation has just replaced, or loses its own records',
    changes: [
      [
        REVOKER,
        '  const Claim claim(mapping);\n  if (mapping->state.load() != State::live) return {};\n',
        '  if (mapping->state.load() != State::live) return {};\n',
      ],
    ],
    tests: [{ native: 'zap' }],
  },
  {
    title: 'zap does not let pages go',
    harm: 'the next touch does not ask the object again',
    changes: [
      [
        REVOKER,
        '  if (madvise(at, bytes, MADV_DONTNEED) == 0) return {};\n',
        '  if (madvise(at, bytes, MADV_WILLNEED) == 0) return {};\n',
      ],
    ],
    tests: [{ native: 'zap' }],
  },
  {
    title: 'zap reaches pages before its range',
    harm: 'other pages are asked for again',
    changes: [
      [
        REVOKER,
        '  void* at = reinterpret_cast<void*>(mapping->page_address(first));\n  const size_t bytes = count << mapping->page_shift;\n  if (madvise',
        '  void* at = reinterpret_cast<void*>(mapping->page_address(0));\n  const size_t bytes = (first + count) << mapping->page_shift;\n  if (madvise',
      ],
    ],
    tests: [{ native: 'zap' }],
  },
];
