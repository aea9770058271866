/** What a client says of a page that it has touched: see `page-server.ts`. Nothing here knows sockets. */
import { viewOf, WireError, zeros } from './wire.js';

/** A page that a client has touched for the first time, or is about to write to. The answer has the same body. */
export interface PageFault {
  token: bigint;
  /** Of the page, in its region. */
  offset: number;
  write: boolean;
  /** It is there, and is to be written to for the first time. */
  firstWrite: boolean;
}

const BODY_BYTES = 24;
const FLAGS = { write: 1, firstWrite: 2 } as const;
export function decodePageFault(body: Uint8Array): PageFault {
  if (body.byteLength !== BODY_BYTES) throw new WireError(`a page fault of ${body.byteLength} bytes instead of ${BODY_BYTES}`);
  const view = viewOf(body);
  const offset = Number(view.getBigUint64(8, true));
  const flags = view.getUint32(16, true);
  if (!Number.isSafeInteger(offset)) throw new WireError(`a page at ${offset}`);
  if (flags > (FLAGS.write | FLAGS.firstWrite)) throw new WireError(`a page fault with flags ${flags}`);
  const [write, firstWrite] = [(flags & FLAGS.write) !== 0, (flags & FLAGS.firstWrite) !== 0];
  return { token: view.getBigUint64(0, true), offset, write, firstWrite };
}

export function encodePageFault({ token, offset, write, firstWrite }: PageFault): Uint8Array {
  const body = zeros(BODY_BYTES);
  const view = viewOf(body);
  view.setBigUint64(0, token, true);
  view.setBigUint64(8, BigInt(offset), true);
  view.setUint32(16, (write ? FLAGS.write : 0) | (firstWrite ? FLAGS.firstWrite : 0), true);
  return body;
}
