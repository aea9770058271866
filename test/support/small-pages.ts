/** Memory whose pages are of 4 KiB, whatever the machine is set to give who has not asked for larger ones. */
import type { Mapping } from 'revocable-mmap';

/** To be called before anything there is touched. */
export function inSmallPages(mapping: Mapping): Mapping {
  try {
    mapping.advise('nohugepage');
  } catch (error) {
    if ((error as { code: string }).code !== 'EINVAL') throw error; // a kernel that has no others
  }
  return mapping;
}
