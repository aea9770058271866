import { truncateSync } from 'node:fs';

truncateSync(process.argv[2], 0);
