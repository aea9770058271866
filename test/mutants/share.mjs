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
