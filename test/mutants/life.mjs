/** Defects of what lives how long, of events and of arguments: L1 to L5, I1. See revocation.mjs. */
const MAPPING = 'src/memory/mapping.ts';
const OBJECT = 'src/memory/memory-object.ts';
const HOLDS = 'src/memory/keep-alive.ts';
const RING = 'native/core/event_ring.cc';
const SERVICE = 'native/core/service.cc';
const ENV = 'native/binding/env_state.cc';
const ARGUMENTS = 'src/arguments.ts';

export const LIFE = [
  {
    title: 'L1 closing twice gives two handles back',
    harm: 'another thread loses its mapping',
    changes: [[HOLDS, '  if (hold.released) return;\n', '']],
    tests: [{ jest: 'test/rules/l1-close.test.ts' }],
  },
  {
    title: 'L1 closing an object leaves suspended mappings open',
    harm: 'their memory is kept, and never reached again',
    changes: [
      [
        'native/core/registry.cc',
        'for (MappingList* list : {&object->live, &object->suspended, &object->dead}) {',
        'for (MappingList* list : {&object->live, &object->dead}) {',
      ],
    ],
    tests: [{ jest: 'test/rules/l1-close.test.ts' }, { native: 'R12 closing a suspended' }],
  },
  {
    title: 'L1 closing an attached mapping ends it for all threads',
    harm: "another thread's mapping is gone",
    changes: [
      [MAPPING, 'letGo(this.#hold, explicit && this.#creator);', 'letGo(this.#hold, explicit);'],
      [MAPPING, '  readonly #creator: boolean;\n', ''],
      [MAPPING, '    this.#creator = creator;\n', '    void creator;\n'],
    ],
    tests: [{ jest: 'test/memory/share.test.ts' }],
  },
  {
    title: 'L2 close() does not give the native handle back',
    harm: 'addresses, a descriptor and a record leak with every mapping',
    changes: [[HOLDS, '  native.release(hold.entry.id, close);\n', '  if (close) native.release(hold.entry.id, close);\n']],
    tests: [{ jest: 'test/rules/l2-leaks.test.ts' }],
  },
  {
    title: 'L2 the keeper stays after close()',
    harm: 'the address range is never freed',
    changes: [
      [HOLDS, '  hold.keeper = undefined;\n', '  kept.push(hold.keeper);\n'],
      [HOLDS, 'const collected =', 'const kept: unknown[] = [];\nconst collected ='],
    ],
    tests: [{ jest: 'test/rules/l2-leaks.test.ts' }],
  },
  {
    title: 'L2 the keeper is dropped before the handle is given back',
    harm: 'the registry holds a range that has been unmapped, and revocation replaces what came there',
    changes: [
      [
        HOLDS,
        '  const keeper = isSharedBuffer(buffer) ? structuredClone(buffer) : undefined;\n',
        '  const keeper = isSharedBuffer(buffer) ? undefined : undefined;\n',
      ],
    ],
    tests: [{ jest: 'test/rules/l2-leaks.test.ts' }, { jest: 'test/rules/r12-no-aliasing.test.ts' }],
  },
  {
    title: 'L2 a mapping that is closed stays among those to be collected',
    harm: 'a table grows with each mapping until its buffer is collected',
    changes: [[HOLDS, '  collected.unregister(hold);\n', '']],
    tests: [{ jest: 'test/rules/l2-leaks.test.ts' }],
  },
  {
    title: 'L2 a mapping is not closed when it has been collected',
    harm: 'memory leaks',
    changes: [
      [
        HOLDS,
        '  for (const way of ways) collected.register(way, hold, hold);\n',
        '  for (const way of ways.slice(9)) collected.register(way, hold, hold);\n',
      ],
    ],
    tests: [{ jest: 'test/rules/l2-leaks.test.ts' }],
  },
  {
    title: 'L2 a shared mapping that is on its way to a thread is closed when it is collected',
    harm: 'attach() fails',
    changes: [
      [
        HOLDS,
        'if (hold.shared && !native.attached(hold.entry.id)) onTheirWay.add(hold);',
        'if (hold.shared && native.attached(hold.entry.id)) onTheirWay.add(hold);',
      ],
    ],
    tests: [{ jest: 'test/memory/share.test.ts' }, { jest: 'test/rules/l2-leaks.test.ts' }],
  },
  {
    title: 'L2 an object is not released when it has been collected',
    harm: 'descriptors leak',
    changes: [[OBJECT, '  forgetObject(id);\n  native.objectRelease(id);\n', '  forgetObject(id);\n']],
    tests: [{ jest: 'test/rules/l2-leaks.test.ts' }],
  },
  {
    title: 'L3 a thread that ends does not give its mappings back',
    harm: 'V8 frees memory that the registry still holds',
    changes: [
      [
        ENV,
        '    for (uint32_t i = 0; i < held.handles; ++i) release_mapping_handle(held.mapping, held.creator && i == 0);\n',
        '    (void)held;\n',
      ],
    ],
    tests: [
      { jest: 'test/rules/l3-threads-and-exit.test.ts', named: 'workers are terminated' },
      { jest: 'test/memory/share.test.ts' },
      { jest: 'test/rules/l2-leaks.test.ts' },
    ],
  },
  {
    title: 'L3 a thread that has ended still gets events',
    harm: 'the process crashes in a loop that has gone',
    changes: [[ENV, '  service_unsubscribe(subscription_);\n  mailbox->shut();\n', '']],
    tests: [{ jest: 'test/rules/l3-threads-and-exit.test.ts', named: 'workers are terminated' }],
  },
  {
    title: 'L3 a thread that ends leaves its waits',
    harm: 'they are woken in memory that has gone',
    changes: [[ENV, '    for (auto& [token, waiter] : *threaded_waits.waiters) wait_cancel(waiter);\n', '']],
    tests: [{ jest: 'test/rules/l3-threads-and-exit.test.ts' }, { jest: 'test/rules/r11-wakes.test.ts', named: 'terminated' }],
  },
  {
    title: 'L4 the wake-up of the event loop keeps the process alive',
    harm: 'a program that has ended does not',
    changes: [['native/binding/loop_wake.cc', '  keep_loop_alive(false);\n', '']],
    tests: [{ jest: 'test/rules/l4-idle.test.ts' }],
  },
  {
    title: 'L4 a promise that is pending does not keep the process alive',
    harm: 'a program ends in the middle of await revoke()',
    changes: [[ENV, '  wake_.keep_loop_alive(pending_ > 0);\n', '  if (pending_ == 0) wake_.keep_loop_alive(false);\n']],
    tests: [{ jest: 'test/rules/l4-idle.test.ts' }],
  },
  {
    title: 'L4 a promise that has resolved goes on keeping the process alive',
    harm: 'a program that has ended does not',
    changes: [['native/binding/revocation.cc', '    state.pending(-1);\n', '']],
    tests: [{ jest: 'test/rules/l4-idle.test.ts' }],
  },
  {
    title: "L5 'revoked' comes twice",
    harm: 'a program cleans up twice',
    changes: [[MAPPING, '    this.#revokedEmitted = true;\n', '']],
    tests: [{ jest: 'test/rules/l5-one-terminal-event.test.ts' }],
  },
  {
    title: "L5 'revoked' of the object comes twice",
    harm: 'a program cleans up twice',
    changes: [
      [
        OBJECT,
        "    if (now === this.#announced || this.#announced === 'closed') return;\n",
        "    if (this.#announced === 'closed') return;\n",
      ],
    ],
    tests: [{ jest: 'test/rules/l5-one-terminal-event.test.ts' }],
  },
  {
    title: "L5 'close' comes twice",
    harm: 'a program counts one too many',
    changes: [
      [MAPPING, '    if (this.#closing) return;\n', ''],
      [MAPPING, '    if (this._slot === CLOSED_SLOT) return;\n    this.#closeHere(true);', '    this.#closeHere(true);'],
    ],
    tests: [{ jest: 'test/rules/l5-one-terminal-event.test.ts' }],
  },
  {
    title: "L5 'revoked' comes after 'close'",
    harm: 'a program uses what it has cleaned up',
    changes: [[MAPPING, "if (this.#revokedEmitted || this.state !== 'revoked') return;", 'if (this.#revokedEmitted) return;']],
    tests: [{ jest: 'test/rules/l5-one-terminal-event.test.ts' }],
  },
  {
    title: "L5 'fault' comes after 'close'",
    harm: 'a program uses what it has cleaned up',
    changes: [[MAPPING, '      if (this.#closeEmitted) return;\n', '']],
    tests: [{ jest: 'test/rules/l5-one-terminal-event.test.ts' }],
  },
  {
    title: 'L5 events are emitted within the call that caused them',
    harm: 'a listener runs in the middle of its own code',
    changes: [['src/thread/emit-later.ts', '  queue.push(emit);\n  schedule();\n', '  queue.push(emit);\n  emitSome();\n']],
    tests: [{ jest: 'test/rules/l5-one-terminal-event.test.ts' }],
  },
  {
    title: 'L5 a revocation is announced before it is complete',
    harm: "a listener of 'revoked' still reaches memory",
    changes: [[OBJECT, "    if (now === 'revoked' && (native.objectState(this.#id) & REVOKE_DONE) === 0) return;\n", '']],
    tests: [{ jest: 'test/rules/l5-one-terminal-event.test.ts' }],
  },
  {
    title: 'L5 a listener that throws ends the queue of events',
    harm: 'other listeners are never called',
    changes: [['src/thread/emit-later.ts', '    } else {\n      schedule();\n    }\n', '    }\n']],
    tests: [{ jest: 'test/rules/l5-one-terminal-event.test.ts' }, { jest: 'test/observability.test.ts' }],
  },
  {
    title: 'L5 the thread that looks misses an event that overtakes another one',
    harm: 'events come with the next ones, or never',
    changes: [
      [
        'native/core/service_inside.cc',
        '  if (!g_service_bell.announced.exchange(true)) service_wake();\n',
        '  if (!g_service_bell.announced.load()) service_wake();\n  g_service_bell.announced.store(true);\n',
      ],
    ],
    tests: [{ jest: 'test/observability.test.ts' }],
  },
  {
    title: 'L5 no thread says that it has looked at the events',
    harm: 'only the first events of a process wake a thread',
    changes: [
      [
        SERVICE,
        'void service_events_looked_at() { g_service_bell.announced.store(false); }',
        'void service_events_looked_at() {}',
      ],
    ],
    tests: [{ jest: 'test/rules/l5-one-terminal-event.test.ts' }],
  },
  {
    title: 'L5 a reader that was too slow loses one event more than it counts',
    harm: 'an event is lost, and eventsDropped does not say so',
    changes: [[RING, '      position = head - kRingSlots;\n', '      position = head - kRingSlots + 1;\n']],
    tests: [{ native: 'L5' }, { jest: 'test/observability.test.ts' }],
  },
  {
    title: 'L5 a reader takes one slot for too new',
    harm: 'events come with the next ones',
    changes: [[RING, '    if (position == head) return false;\n', '    if (position + 1 == head) return false;\n']],
    tests: [{ native: 'L5' }],
  },
  {
    title: 'L5 a reader that is overtaken while it reads does not notice',
    harm: 'an event of one mapping is emitted on another',
    changes: [
      [
        RING,
        '    if (is_later_round(written, round)) return Found::overwritten;\n',
        '    if (i == 0 && is_later_round(written, round)) return Found::overwritten;\n',
      ],
      [
        RING,
        '    if (written != round) found = Found::unwritten;\n',
        '    if (i == 0 && written != round) found = Found::unwritten;\n',
      ],
    ],
    tests: [{ native: 'L5' }],
  },
  {
    title: 'L5 a writer that the others have overtaken writes nevertheless',
    harm: 'no thread gets events until the ring has gone round once more',
    changes: [
      ['native/core/event_ring_inside.cc', '  while (is_later_round(round, before >> kRoundShift)) {\n', '  for (;;) {\n'],
    ],
    tests: [{ native: 'L5' }],
  },
  {
    title: 'L5 what a slow reader has lost is not looked up',
    harm: "'revoked' never comes",
    changes: [
      [
        'src/thread/wakeups.ts',
        '  if (dropped > 0) for (const known of allKnown()) known._synchronize();\n',
        '  void dropped;\n  void allKnown;\n',
      ],
    ],
    tests: [{ jest: 'test/observability.test.ts' }],
  },
  {
    title: 'L5 the last events of a program are not emitted',
    harm: 'a program ends before its event is emitted',
    changes: [['src/thread/wakeups.ts', "  process.on('beforeExit', drain);\n", '']],
    tests: [{ jest: 'test/observability.test.ts' }, { jest: 'test/rules/l4-idle.test.ts' }],
  },
  {
    title: "L5 'signal' is aborted after 'revoked'",
    harm: 'a listener finds it not aborted',
    changes: [
      [
        OBJECT,
        "      this.#controller?.abort(error);\n      this.emit('revoked', error);\n",
        "      this.emit('revoked', error);\n      this.#controller?.abort(error);\n",
      ],
    ],
    tests: [{ jest: 'test/observability.test.ts' }],
  },
  {
    title: 'I1 fractions pass for integers',
    harm: 'native code gets another number',
    changes: [[ARGUMENTS, 'if (!Number.isInteger(value)) throw', 'if (Number.isNaN(value)) throw']],
    tests: [{ jest: 'test/rules/i1-arguments.test.ts' }],
  },
  {
    title: 'I1 the largest value is taken for too large',
    harm: 'the last byte cannot be reached',
    changes: [[ARGUMENTS, 'if (value < min || value > max) throw', 'if (value < min || value >= max) throw']],
    tests: [{ jest: 'test/rules/i1-arguments.test.ts' }],
  },
  {
    title: 'I1 alignment is not looked at',
    harm: 'a torn access',
    changes: [[ARGUMENTS, 'if (value % unit !== 0) throw', 'if (value % unit < 0) throw']],
    tests: [{ jest: 'test/rules/i1-arguments.test.ts' }],
  },
  {
    title: 'I1 null passes for options',
    harm: 'a TypeError without a code, of the library itself',
    changes: [
      [
        ARGUMENTS,
        "if (typeof value !== 'object' || value === null || Array.isArray(value)) throw",
        "if (typeof value !== 'object' || Array.isArray(value)) throw",
      ],
    ],
    tests: [{ jest: 'test/rules/i1-arguments.test.ts' }],
  },
  {
    title: 'I1 a length beyond the end of owned memory passes',
    harm: 'a mapping that faults although no file was cut',
    changes: [
      [
        'src/memory/map-options.ts',
        "integer('options.length', given.length, 1, size - offset)",
        "integer('options.length', given.length, 1, size)",
      ],
    ],
    tests: [{ jest: 'test/rules/i1-arguments.test.ts' }],
  },
  {
    title: 'I1 a range may go beyond the end of the mapping by its last page',
    harm: 'madvise(2) or mprotect(2) of memory that is not ours',
    changes: [
      [
        MAPPING,
        "integer('range.length', range.length, 1, this.length - offset)",
        "integer('range.length', range.length, 1, this.length - offset + this.#pageSize)",
      ],
    ],
    tests: [{ jest: 'test/rules/i1-arguments.test.ts' }],
  },
  {
    title: 'I1 rearranged pages may show what is behind the end of owned memory',
    harm: 'a mapping that faults although no file was cut',
    changes: [
      [MAPPING, 'if (this.object.owned && objectOffset + length > whole) {', 'if (this.object.owned && objectOffset > whole) {'],
    ],
    tests: [{ jest: 'test/rules/i1-arguments.test.ts' }, { jest: 'test/memory/remap-pages.test.ts' }],
  },
  {
    title: 'I1 a handle with another buffer is attached',
    harm: 'a mapping of memory that is not there',
    changes: [
      [
        'native/binding/mappings.cc',
        'if (!same || mapping->start < base || mapping->start + mapping->length > base + bytes.ByteLength()) {',
        'if (!same || (mapping->start < base && mapping->start + mapping->length > base + bytes.ByteLength())) {',
      ],
    ],
    tests: [{ jest: 'test/rules/i1-arguments.test.ts' }],
  },
];
