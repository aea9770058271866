/** What this process has open. */
import { readdirSync, readlinkSync } from 'node:fs';

/** What each open descriptor is, without the one used for looking. */
export function openDescriptors(): string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return `${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`;
      } catch {
        return '';
      }
    })
    .filter((line) => line !== '' && !/\/proc\/\d+\/fd$/.test(line));
}
