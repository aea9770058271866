/** Defects of simulated devices. See revocation.mjs. */
const PAGER = 'native/device/pager.cc';
const REMOVAL = 'src/device/removal.ts';
const FILE = 'src/device/device-file.ts';
const BUS = 'src/device/hotplug-bus.ts';
const PORT = 'native/device/register_port.cc';
const REGISTERS = 'native/device/register_file_inside.cc';
const TRACE = 'native/device/access_trace.cc';

export const DEVICES = [
  {
    title: 'device: a page that was asked for is asked for again by a second thread',
    harm: 'an op runs twice for one page',
    changes: [
      [
        PAGER,
        '      if (is_owner(mapping, tid)) refuse_self(mapping, page, (flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0);\n      return;\n',
        '      return first_touch(mapping, page, flags, tid);\n',
      ],
    ],
    tests: [{ native: 'a fault op is asked once' }],
  },
  {
    title: 'device: an answer goes to the page behind',
    harm: 'pages have the content of others',
    changes: [
      [
        PAGER,
        '      userfault_copy(mapping->page_address(page), content, pages << kPageShift,',
        '      userfault_copy(mapping->page_address(page + 1 < mapping->pages() ? page + 1 : page), content, pages << kPageShift,',
      ],
    ],
    tests: [{ native: 'a C++ op serves' }],
  },
  {
    title: 'device: content for several pages replaces those that are there',
    harm: 'what was written to them is lost',
    changes: [
      [
        PAGER,
        'while (next < end && progress(mapping, next) == PageProgress::untouched && mapping->mark_of(next) == mark) ++next;',
        'while (next < end && mapping->mark_of(next) == mark) ++next;',
      ],
    ],
    tests: [{ native: 'pages' }, { jest: 'test/device/faults.test.ts', named: 'content for several' }],
  },
  {
    title: 'device: content for several pages crosses the borders of protections',
    harm: 'the kernel refuses all of it, and a thread hangs or reads nothing',
    changes: [
      [
        PAGER,
        'progress(mapping, next) == PageProgress::untouched && mapping->mark_of(next) == mark) ++next;',
        'progress(mapping, next) == PageProgress::untouched) ++next;',
      ],
      [PAGER, '  const PageMark mark = mapping->mark_of(page);\n  size_t next = page + 1;', '  size_t next = page + 1;'],
    ],
    tests: [{ native: 'pages that come together' }],
  },
  {
    title: 'device: a page that is refused does not wake its thread',
    harm: 'the thread hangs',
    changes: [
      [
        PAGER,
        '  lose_page_of_device(mapping, request.page, cause, request.address, request.write);\n  wake_page(mapping, request.page);\n',
        '  lose_page_of_device(mapping, request.page, cause, request.address, request.write);\n',
      ],
    ],
    tests: [{ native: 'kernel case 28' }],
  },
  {
    title: 'device: a page that is refused is not marked as lost',
    harm: 'its toucher asks for ever, or reads a fill without an error',
    changes: [
      [
        PAGER,
        '  lose_page_of_device(mapping, request.page, cause, request.address, request.write);\n  wake_page(mapping, request.page);\n',
        '  if (cause != Cause::refused) lose_page_of_device(mapping, request.page, cause, request.address, request.write);\n  wake_page(mapping, request.page);\n',
      ],
    ],
    tests: [{ native: 'kernel case 28' }],
  },
  {
    title: 'device: the time of an op is never up',
    harm: 'a thread waits for ever for a device that hangs',
    changes: [
      [
        PAGER,
        '    if (at->second.deadline_ms <= now) {\n',
        '    if (at->second.deadline_ms <= now && at->second.page == SIZE_MAX) {\n',
      ],
    ],
    tests: [{ native: 'an op that does not answer' }],
  },
  {
    title: 'device: the pager oversleeps a limit that is earlier than the one it sleeps for',
    harm: 'a thread waits longer than opTimeout',
    changes: [[PAGER, '  if (overslept) eventfd_write(pager().bell, 1);\n', '  (void)overslept;\n']],
    tests: [
      { native: 'the limit of a device' },
      { native: 'an op that does not answer' },
      { jest: 'test/device/faults.test.ts', named: 'never answers' },
    ],
  },
  {
    title: 'device: a thread waits for itself',
    harm: 'it hangs for ever',
    changes: [
      [
        PAGER,
        '  return static_cast<int>(tid) == device_of(mapping->object).owner_tid;',
        '  return static_cast<int>(tid) == -device_of(mapping->object).owner_tid;',
      ],
    ],
    tests: [{ native: 'an owner that touches its own page' }],
  },
  {
    title: 'device: a touch by the thread that would have to answer is not counted',
    harm: 'a fill passes for data',
    changes: [[PAGER, '  mapping->device_mapping->self_faults.fetch_add(1);\n', '']],
    tests: [{ jest: 'test/device/faults.test.ts', named: 'self' }, { jest: 'test/device/faults.test.ts' }],
  },
  {
    title: 'device: zap forgets what has been asked for',
    harm: 'the op runs twice, or its answer is discarded and the thread hangs',
    changes: [[PAGER, '    if (now == PageProgress::asked) continue;\n', '']],
    tests: [
      { native: 'kernel case 2' },
      { native: 'first touches, zaps' },
      { jest: 'test/kernel-cases/pager.test.ts' },
      { jest: 'test/device/faults.test.ts' },
    ],
  },
  {
    title: 'device: zap does not make pages be asked for again',
    harm: 'the device is not asked though it should be',
    changes: [[PAGER, '    now = PageProgress::untouched;\n  }\n}\n\nbool pager_answer', '  }\n}\n\nbool pager_answer']],
    tests: [{ native: 'kernel case 29' }],
  },
  {
    title: 'device: a page that was refused stays lost after zap',
    harm: 'a device that has recovered is never asked',
    changes: [['native/core/revoker.cc', '    return restore_lost_pages(mapping, first, count);\n', '    return Failure{};\n']],
    tests: [{ native: 'kernel case 26' }],
  },
  {
    title: 'device: a first write that is refused is made',
    harm: 'a write that the device forbade reaches its memory',
    changes: [
      [
        PAGER,
        '  if (!allowed) forbid_writes(mapping, request.page);\n',
        '  if (!allowed) userfault_allow_write(request.address, kPageSize);\n',
      ],
    ],
    tests: [{ native: 'a first write that is refused' }],
  },
  {
    title: 'device: rearranged pages are asked for by where they are',
    harm: 'pages have the content of others',
    changes: [
      [
        PAGER,
        '{mapping_id, mapping->object->device_region, page, mapping->object_offset_of(page), tid,',
        '{mapping_id, mapping->object->device_region, page, mapping->object_offset + (page << kPageShift), tid,',
      ],
    ],
    tests: [{ native: 'rearranged pages' }],
  },
  {
    title: 'device: an answer for a page that has been rearranged since is taken',
    harm: 'the page shows what belongs elsewhere',
    changes: [
      [
        PAGER,
        '  drop_requests_of(mapping, first_page, pages);\n  for (size_t page = first_page; page < first_page + pages; ++page) {\n    PageProgress& now = progress(mapping, page);\n    if (!is_waited_for(now)) continue;\n    now = now == PageProgress::asked',
        '  for (size_t page = first_page; page < first_page + pages; ++page) {\n    PageProgress& now = progress(mapping, page);\n    if (!is_waited_for(now)) continue;\n    now = now == PageProgress::asked',
      ],
    ],
    tests: [{ native: 'a thread that waits for a page which is then' }],
  },
  {
    title: 'device: what has been asked for a mapping that is gone is still to be answered',
    harm: 'ops run that no caller waits for',
    changes: [[PAGER, '  drop_requests_of(mapping, 0, mapping->pages());\n', '']],
    tests: [{ native: 'R11' }, { native: 'R6' }, { jest: 'test/device/removal.test.ts' }],
  },
  {
    title: 'device: calls that wait are not ended by a removal',
    harm: 'a thread waits for a device that is gone',
    changes: [
      [
        'native/device/device.cc',
        '    if (call->result == CallResult::pending) settle_call(*call, CallResult::gone);\n',
        '    (void)call;\n',
      ],
    ],
    tests: [{ native: 'a call from another thread' }],
  },
  {
    title: 'device: work that waits for its turn is done after a removal',
    harm: 'ops run after unplug() has resolved',
    changes: [
      [
        'native/device/device.cc',
        '  std::erase_if(device.work, [](const Work& work) { return work.kind != WorkKind::expired; });\n  return true;',
        '  return true;',
      ],
      ['native/device/device.cc', '  const bool removed = device.removed.load();\n', '  const bool removed = false;\n'],
    ],
    tests: [{ jest: 'test/device/removal.test.ts' }, { jest: 'test/device/histories.test.ts' }],
  },
  {
    title: 'device: unplug() does not wait for the ops that run',
    harm: 'an op runs after the promise has resolved',
    changes: [[REMOVAL, '    await running.drain(end);\n', '']],
    tests: [{ jest: 'test/device/removal.test.ts' }],
  },
  {
    title: 'device: files that are open are not released by a removal',
    harm: 'the release op is never called',
    changes: [[REMOVAL, '    files.releaseAll();\n', '']],
    tests: [{ jest: 'test/device/removal.test.ts' }],
  },
  {
    title: 'device: a file is released while a mapping made through it is open',
    harm: 'the release op comes before the close op',
    changes: [
      [
        'src/device/open-files.ts',
        'if (!file.closed || file.mappings > 0 || this.device._removing) return;',
        'if (!file.closed || this.device._removing) return;',
      ],
    ],
    tests: [
      { jest: 'test/device/histories.test.ts' },
      { jest: 'test/device/removal.test.ts' },
      { jest: 'test/device/op-answers.test.ts' },
    ],
  },
  {
    title: 'device: the abort listener of a call of a file stays',
    harm: 'a leak on a signal that lives long',
    changes: [[FILE, "      given?.removeEventListener('abort', endBySignal);\n", '']],
    tests: [{ jest: 'test/device/listeners.test.ts' }],
  },
  {
    title: 'device: the abort listener of an iteration of interrupts stays',
    harm: 'a leak on a signal that lives long',
    changes: [[FILE, "      signal?.removeEventListener('abort', stop);\n", '']],
    tests: [{ jest: 'test/device/listeners.test.ts' }],
  },
  {
    title: 'device: the abort listener of an iteration of hotplug events stays',
    harm: 'a leak on a signal that lives long',
    changes: [[BUS, "      signal?.removeEventListener('abort', stop);\n", '']],
    tests: [{ jest: 'test/device/listeners.test.ts' }],
  },
  {
    title: 'device: a bus that has been closed goes on listening to its devices',
    harm: 'a device that lives long keeps every bus that it was on',
    changes: [[BUS, '    for (const unsubscribe of this.#unsubscribe.values()) unsubscribe();\n', '']],
    tests: [{ jest: 'test/device/listeners.test.ts' }],
  },
  {
    title: 'device: a poller does not hear of changes',
    harm: 'poll() waits until its time is up',
    changes: [
      [FILE, '    const unsubscribe = this.#backend.onNotify(happen);\n', '    const unsubscribe = (): void => undefined;\n'],
    ],
    tests: [{ jest: 'test/kernel-cases/hidraw.test.ts' }, { jest: 'test/device/removal.test.ts' }],
  },
  {
    title: 'device: poll() looks before it listens',
    harm: 'a change between the two is missed',
    changes: [
      [
        FILE,
        `      const change = this.#nextChange(end, ended);
      try {
        const ready = (await this.#backend.poll(this.#id, ended)) & (wanted | POLL.ERR | POLL.HUP);
`,
        `      const ready = (await this.#backend.poll(this.#id, ended)) & (wanted | POLL.ERR | POLL.HUP);
      const change = this.#nextChange(end, ended);
      try {
`,
      ],
    ],
    tests: [{ jest: 'test/kernel-cases/hidraw.test.ts' }],
  },
  {
    title: 'registers: a removal does not wait for the model that runs',
    harm: 'the model of an addon is called after its memory has gone',
    changes: [
      [
        PORT,
        '    const PortTurn turn(port);\n    if (port->device.load(std::memory_order_relaxed) != device) return;\n',
        '    if (port->device.load(std::memory_order_relaxed) != device) return;\n',
      ],
    ],
    tests: [{ native: 'registers: a second removal' }],
  },
  {
    title: 'registers: threads that wait for an answer are not let go by a removal',
    harm: 'they wait until opTimeout',
    changes: [[PORT, '    port->open.store(false);\n  }\n  port_let_go(port);\n', '    port->open.store(false);\n  }\n']],
    tests: [{ native: 'registers: threads that wait' }],
  },
  {
    title: 'registers: an answer is taken by an access that got the slot later',
    harm: 'an access reads the value of another register',
    changes: [
      [
        'native/device/register_slots.h',
        'uint32_t freed(uint32_t word) { return with_state(word, AskedAccess::kFree) + (1u << AskedAccess::kStateBits); }',
        'uint32_t freed(uint32_t word) { return with_state(word, AskedAccess::kFree); }',
      ],
    ],
    tests: [{ native: 'registers: a model that fails' }, { native: 'registers' }],
  },
  {
    title: 'registers: an access that was left keeps its slot',
    harm: 'after 256 late answers no raw access reaches any device',
    changes: [
      [
        'native/device/register_port_inside.cc',
        '      port_sweep(port);  // or what has been left would use up the slots while the owner does not look\n',
        '',
      ],
    ],
    tests: [{ native: 'registers: what a stuck device' }],
  },
  {
    title: 'registers: a raw read-modify-write may be divided by another thread',
    harm: 'an addition is lost',
    changes: [
      [
        REGISTERS,
        '        while (!cell.value.compare_exchange_weak(old, (old & ~common.register_mask()) | bits)) {\n        }\n',
        '        cell.value.store((old & ~common.register_mask()) | bits);\n',
      ],
    ],
    tests: [{ native: 'registers: four threads' }],
  },
  {
    title: 'registers: a write of ones sets them where it should clear',
    harm: 'an interrupt is never acknowledged',
    changes: [
      [
        REGISTERS,
        'case RegisterKind::write_one_to_clear: cell.value.fetch_and(~bits); break;',
        'case RegisterKind::write_one_to_clear: cell.value.fetch_or(bits); break;',
      ],
    ],
    tests: [{ jest: 'test/device/registers-file.test.ts' }],
  },
  {
    title: 'registers: a part of a register that is read clears all of it',
    harm: 'bits that no thread has read are lost',
    changes: [
      [REGISTERS, 'value = cell.value.fetch_and(~common.register_mask()); break;', 'value = cell.value.exchange(0); break;'],
    ],
    tests: [{ jest: 'test/device/registers-file.test.ts' }],
  },
  {
    title: 'registers: an access that ends behind the registers is delivered',
    harm: 'a model is asked for an offset that it does not have',
    changes: [
      [
        'native/device/register_access_inside.cc',
        '|| last - mapping->start >= mapping->length) return AccessVerdict::refused;',
        '|| access.address - mapping->start >= mapping->length) return AccessVerdict::refused;',
      ],
    ],
    tests: [{ native: 'registers: an access that is not wholly' }],
  },
  {
    title: 'registers: protect() does not hold for raw accesses',
    harm: 'a write that was forbidden reaches the device',
    changes: [
      [
        'native/device/register_access_inside.cc',
        'if (!permitted(mapping, access.address, access) || !permitted(mapping, last, access)) return AccessVerdict::forbidden;',
        'if (!permitted(mapping, access.address, access) && !permitted(mapping, last, access) && mapping->writable) return AccessVerdict::forbidden;',
      ],
    ],
    tests: [{ native: 'registers: a write through a mapping' }, { jest: 'test/device/registers.test.ts', named: 'protect()' }],
  },
  {
    title: 'registers: only the first byte of an access is looked at for its permission',
    harm: 'a write across the border of two pages reaches the one that forbids it',
    changes: [
      [
        'native/device/register_access_inside.cc',
        'if (!permitted(mapping, access.address, access) || !permitted(mapping, last, access)) return',
        'if (!permitted(mapping, access.address, access)) return',
      ],
    ],
    tests: [{ jest: 'test/device/registers.test.ts' }, { native: 'registers' }],
  },
  {
    title: 'registers: a failure of the model does not reach check()',
    harm: 'a fill passes for a value',
    changes: [
      [
        'native/device/register_access_inside.cc',
        '    note_raw_failure(mapping, target.address, cause);\n  }\n  report_access',
        '  }\n  report_access',
      ],
    ],
    tests: [{ jest: 'test/device/registers.test.ts' }],
  },
  {
    title: 'trace: an access that finds the ring full is not counted as lost',
    harm: 'a trace with a hole passes for whole',
    changes: [
      [TRACE, '    taken.lost = std::exchange(trace.lost, 0);\n', '    taken.lost = 0 * std::exchange(trace.lost, 0);\n'],
    ],
    tests: [{ native: 'a full ring' }, { jest: 'test/device/trace.test.ts' }],
  },
  {
    title: 'trace: the ring ends one access early',
    harm: 'accesses are read again, or out of order',
    changes: [
      [
        TRACE,
        'trace.first = trace.first + 1 == trace.capacity ? 0 : trace.first + 1;',
        'trace.first = trace.first + 2 >= trace.capacity ? 0 : trace.first + 1;',
      ],
    ],
    tests: [{ native: 'a record is taken' }, { native: 'a storm into a small ring' }],
  },
  {
    title: 'trace: one that was closed goes on counting as recording',
    harm: 'every access of the device pays for a trace that is gone',
    changes: [[TRACE, '  status_words()[set->word].fetch_sub(1, std::memory_order_relaxed);\n', '']],
    tests: [{ jest: 'test/device/trace.test.ts' }, { native: 'trace' }],
  },
];
