/** What the two programs, main.mts and check.mts, do with their command lines. */
import { parseArgs, type ParseArgsConfig } from 'node:util';

type Options = NonNullable<ParseArgsConfig['options']>;
type Values<T extends Options> = ReturnType<typeof parseArgs<{ options: T }>>['values'];

/** The end of a program that was asked for what there is not: nothing has been measured. */
export function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

export function parsed<T extends Options>(usage: string, options: T): Values<T> {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    refuse(`${(error as Error).message}\nusage: ${usage}`);
  }
}

/** Those whose ids begin with one of `only`; all without it. */
export function chosenOf<T extends { id: string }>(rows: readonly T[], only: readonly string[] | undefined): T[] {
  for (const part of only ?? []) {
    if (!rows.some(({ id }) => id.startsWith(part)))
      refuse(`no row begins with ${part}; there are: ${rows.map(({ id }) => id).join(', ')}`);
  }
  return rows.filter(({ id }) => only?.some((part) => id.startsWith(part)) ?? true);
}
