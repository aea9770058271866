/** All rows. A new one is a file in rows/ and a line here. */
import type { Row } from './row.mjs';
import { rows as access } from './rows/access.mjs';
import { rows as copy } from './rows/copy.mjs';
import { rows as device } from './rows/device.mjs';
import { rows as fault } from './rows/fault.mjs';
import { rows as faultParts } from './rows/fault_parts.mjs';
import { rows as growth } from './rows/growth.mjs';
import { rows as mapClose } from './rows/map_close.mjs';
import { rows as memory } from './rows/memory.mjs';
import { rows as registers } from './rows/registers.mjs';
import { rows as revoke } from './rows/revoke.mjs';
import { rows as rivals } from './rows/rivals.mjs';
import { rows as share } from './rows/share.mjs';
import { rows as stall } from './rows/stall.mjs';

export const ROWS: Row[] = [
  ...access,
  ...copy,
  ...revoke,
  ...stall,
  ...fault,
  ...faultParts,
  ...mapClose,
  ...device,
  ...registers,
  ...share,
  ...growth,
  ...memory,
  ...rivals,
];
