/** Ordinary functions on registers, observed in a process of its own: what reached the model, and what did not. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { runChild } from './child.js';
import { ACCESSES } from './wasm.js';
import { INSTRUCTIONS, INSTRUCTIONS_PROGRAM } from './wasm-instructions.js';

interface Seen {
  calls: number;
  reads: number;
  writes: number;
  /** Most bytes that were read besides those that had to be. */
  beyond: number;
  refused: number;
}

interface Result {
  functions: Record<string, Seen>;
  failures: string[];
  /** Where the C library's memset, memmove, memcmp and memchr are. */
  variants: string[];
}

interface Wanted {
  /** All that there are, if left out. */
  names?: string[];
  lengths: number[];
  places: (number | 'start' | 'end')[];
  /** A SharedArrayBuffer, which V8 and Node fill byte by byte where they call the C library for others. */
  shared: boolean;
}

export async function observe(wanted: Wanted, tunables: string[] = [], nodeArgs: string[] = []): Promise<Result> {
  const given = {
    ...wanted,
    program: Buffer.from(ACCESSES).toString('base64'),
    instructions: INSTRUCTIONS,
    instructionsProgram: Buffer.from(INSTRUCTIONS_PROGRAM).toString('base64'),
  };
  const { status, signal, stdout, stderr } = await runChild('devices/register-functions.cjs', {
    args: [JSON.stringify(given)],
    env: { GLIBC_TUNABLES: tunables.join(':') },
    nodeArgs,
    limit: 400_000,
  });
  if (status !== 0) throw new Error(`status ${status}, signal ${signal}\n${stdout.slice(0, 4000)}\n${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Result;
}

/** Everything reached the model, and nothing else did. */
export function expectDelivered({ functions, failures }: Result): void {
  expect(failures).toEqual([]);
  const seen = Object.entries(functions);
  expect(seen.filter(([, { refused }]) => refused > 0)).toEqual([]);
  expect(seen.filter(([, { calls, reads, writes }]) => calls === 0 || reads + writes === 0)).toEqual([]);
}

export const flags = new Set(/^flags\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1].split(' '));
export const hasAvx512 = flags.has('avx512vl') && flags.has('avx512bw');
export const isGlibc = spawnSync('getconf', ['GNU_LIBC_VERSION'], { encoding: 'utf8' }).stdout?.startsWith('glibc') === true;

/** What the C library is to do without, so that it chooses as on older processors. */
export const NO_AVX512 = ['-AVX512F', '-AVX512VL'];
export const SSE2 = [...NO_AVX512, '-AVX2', '-AVX_Fast_Unaligned_Load'];
