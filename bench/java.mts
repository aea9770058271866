/** Java, which has both an error for what a truncated file no longer has and a way to take memory back. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { program } from './baseline.mjs';
import type { Side } from './row.mjs';

export interface Java {
  command: string;
  version: number;
}

/** Where distributions put more than one. */
const INSTALLED = '/usr/lib/jvm';
/** Arenas are final since then, and an unsafe access throws at the return of the method that made it, not somewhat later. */
const LEAST = 22;
// This runs as build/bench/java.mjs.
const SOURCES = new URL('../../bench/rivals/', import.meta.url);

let found: Java | undefined | null = null;

/** The newest one of this machine. */
export function java(): Java | undefined {
  if (found === null) found = candidates().flatMap(inspected).sort(newestFirst)[0];
  return found;
}

function candidates(): string[] {
  const named = process.env.JAVA_HOME === undefined ? [] : [join(process.env.JAVA_HOME, 'bin/java')];
  const installed = existsSync(INSTALLED) ? readdirSync(INSTALLED).map((name) => join(INSTALLED, name, 'bin/java')) : [];
  return [...named, 'java', ...installed];
}

function inspected(command: string): Java[] {
  const { stderr } = spawnSync(command, ['-version'], { encoding: 'utf8' });
  const version = Number(/ version "(\d+)/.exec(stderr ?? '')?.[1]);
  return version > 0 ? [{ command, version }] : [];
}

function newestFirst(a: Java, b: Java): number {
  return b.version - a.version;
}

/** Why no row can be measured; undefined when it can. */
export function whyNoJava(): string | undefined {
  const version = java()?.version;
  if (version === undefined) return 'there is no java on this machine';
  return version < LEAST ? `needs Java ${LEAST} or newer; this is ${version}` : undefined;
}

export function javaSource(name: string): string {
  return fileURLToPath(new URL(`${name}.java`, SOURCES));
}

export function javaProgram(name: string, args: readonly (string | number)[], options: readonly string[] = []): Side {
  return program(java()?.command ?? 'java', [...options, javaSource(name), ...args]);
}
