/** Defects of what is shared between processes. See revocation.mjs. */
const OWNER = 'native/share/owner_lock.cc';
const HANGUP = 'native/share/hangup.cc';
const SOCKET = 'native/share/socket.cc';
const RING = 'src/share/ring.ts';
const MUTEX = 'src/share/mutex.ts';

export const SHARE = [
  {
    title: 'share: the end of a peer is acknowledged before the objects are revoked',
    harm: 'a server that has all acknowledgements reuses memory that a client still reads',
    changes: [
      [
        HANGUP,
        '  for (Object* object : watched->objects) revoke_finish(object, revoke_begin(object));\n  release_all(watched->objects);\n  if (socket < 0) return;\n  shutdown(socket, SHUT_WR);\n  close(socket);\n',
        '  shutdown(socket, SHUT_WR);\n  usleep(50000);\n  for (Object* object : watched->objects) revoke_finish(object, revoke_begin(object));\n  release_all(watched->objects);\n  if (socket >= 0) close(socket);\n',
      ],
    ],
    tests: [{ native: 'R1 the end of a peer' }],
  },
  {
    title: 'share: a socket that is forgotten stays watched',
    harm: 'its peer never sees the end, and its descriptor is leaked',
    changes: [[HANGUP, '  close(watched->socket);\n  release_all(watched->objects);', '  release_all(watched->objects);']],
    tests: [{ native: 'a peer that is forgotten' }],
  },
  {
    title: 'share: a server removes the name of the server that came after it',
    harm: 'the next server cannot be reached any more',
    changes: [
      [SOCKET, 'status.st_dev == listener->device && status.st_ino == listener->inode', 'status.st_dev == listener->device'],
    ],
    tests: [{ native: 'a name has its mode' }],
  },
  {
    title: 'share: descriptors beyond the most are not reported',
    harm: 'a peer that floods goes unnoticed',
    changes: [[SOCKET, '(message.msg_flags & MSG_CTRUNC) != 0', 'false']],
    tests: [{ native: 'of more descriptors than fit' }],
  },
  {
    title: 'share: an owner is its process, and not its descriptor',
    harm: 'a thread that has ended holds its mutexes until the process ends, and two threads have one death',
    changes: [
      [OWNER, 'fcntl(fd, F_OFD_SETLK, &lock) != 0', 'fcntl(fd, F_SETLK, &lock) != 0'],
      [OWNER, 'fcntl(fd, F_OFD_GETLK, &lock) == 0', 'fcntl(fd, F_GETLK, &lock) == 0'],
    ],
    tests: [{ native: 'an owner lives until' }, { jest: 'test/share/mutex.test.ts', named: 'terminated' }],
  },
  {
    title: 'share: a mutex whose holder died keeps quiet about it',
    harm: 'the next holder takes half a change for a whole one',
    changes: [[MUTEX, 'this, (word & OWNER) !== 0, generation', 'this, false, generation']],
    tests: [{ jest: 'test/share/mutex.test.ts', named: 'kill -9 of a holder' }],
  },
  {
    title: 'share: the thread that has connected is refused the pages of another process',
    harm: 'the main thread of a client reads the fill',
    changes: [['native/device/pager.cc', '!supply.owner_serves) return false', 'supply.owner_serves) return false']],
    tests: [{ native: "in the owner's thread too" }, { jest: 'test/share/pages.test.ts', named: 'own main thread' }],
  },
  {
    title: 'share: an answer that a page is there makes a page of zeros where there is none',
    harm: 'a page that was discarded meanwhile reads zeros, and its op is not asked',
    changes: [
      [
        'native/device/pager.cc',
        'if (answer.kind == Answer::Kind::present) return map_present(mapping, request.page);',
        'if (answer.kind == Answer::Kind::present) return place(mapping, request.page, 1, pager().scratch);',
      ],
    ],
    tests: [{ native: 'is asked for again' }],
  },
  {
    title: 'share: a first write of another process writes what it has read',
    harm: 'what is written meanwhile is lost',
    changes: [['native/fault/guarded_copy_inside.cc', 'lock orb $0, (%rdi)', 'movb (%rdi), %al\\n  movb %al, (%rdi)']],
    tests: [{ native: 'a touch for writing' }],
  },
  {
    title: 'share: a ring wakes its consumer for the last slots only',
    harm: 'a consumer that wants less than the ring holds sleeps for ever',
    changes: [[RING, 'wanted !== 0 && filled >= wanted', 'wanted !== 0 && filled >= this.slots']],
    tests: [{ jest: 'test/share/ring.test.ts', named: 'waits end when there is enough' }],
  },
  {
    title: 'share: a batch that goes over the end of a ring is copied on behind it',
    harm: 'memory behind the ring is overwritten',
    changes: [[RING, 'const first = Math.min(count, this.slots - index) * slotSize;', 'const first = count * slotSize;']],
    tests: [{ jest: 'test/share/ring.test.ts', named: 'over the end of the ring' }],
  },
];
