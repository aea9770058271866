/** The rules of the folders of native/, and that each check finds what breaks its rule. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { runNode } from '../support/child.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'structure-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function plant(name: string, text: string): string {
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

function compile(name: string, text: string): void {
  const file = plant(name, text);
  const args = ['-std=c++20', '-O2', '-fPIC', '-fno-exceptions', '-fno-rtti', '-c', '-o', file.replace(/cc$/, 'o'), file];
  const { status, stderr } = spawnSync('g++', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}

describe('includes', () => {
  const check = async (...args: string[]) => runNode([join(__dirname, 'native-includes.mjs'), ...args]);

  test('no folder of native includes one above it', async () => {
    expect(await check()).toMatchObject({ status: 0, stderr: '' });
  });

  test.each([
    ['core/a.cc', 'device/pager.h'],
    ['base/a.h', 'core/registry.h'],
    ['fault/a_inside.cc', 'binding/env_state.h'],
    ['device/a.cc', 'bench/touch.h'],
  ])('%s must not include %s', async (from, to) => {
    plant(from, `#include <vector>\n#include "base/page.h"\n#include "${to}"\n`);
    const run = await check(folder);
    expect(run.status).toBe(1);
    expect(run.stderr).toContain(`${from} includes ${to}`);
  });

  test('a folder without a place is an error', async () => {
    plant('elsewhere/a.cc', '#include "base/page.h"\n');
    expect(await check(folder)).toMatchObject({ status: 1 });
  });
});

describe('headers', () => {
  const check = async (...args: string[]) => runNode([join(__dirname, 'native-headers.mjs'), ...args]);

  test('what a header declares is implemented in the files of its name', async () => {
    expect(await check()).toMatchObject({ status: 0, stderr: '' });
  });

  test.each([
    ['a function', 'int f(int a);\n', 'int f(int a) {\n  return a;\n}\n', 'f'],
    ['a method', 'class A {\n  void g();\n};\n', 'void A::g() {}\n', 'A::g'],
  ])('%s elsewhere is found', async (_what, declaration, definition, name) => {
    plant('core/a.h', declaration);
    plant('fault/b_inside.cc', `#include "core/a.h"\n${definition}`);
    const run = await check(folder);
    expect(run.status).toBe(1);
    expect(run.stderr).toContain(`fault/b_inside.cc has ${name}, which core/a.h declares`);
  });

  test.each(['core/a.cc', 'core/a_inside.cc', 'core/a_outside.cc'])('one in %s is not', async (file) => {
    plant('core/a.h', 'int f(int a);\n');
    plant(file, 'int f(int a) {\n  return a;\n}\n');
    expect(await check(folder)).toMatchObject({ status: 0, stderr: '' });
  });
});

describe('symbols of handler code', () => {
  const check = async (...args: string[]) => runNode([join(__dirname, 'inside-symbols.mjs'), ...args]);

  test('handler code needs nothing that is not safe in a signal handler', async () => {
    expect(await check()).toMatchObject({ status: 0, stderr: '' });
  });

  test.each([
    ['a lock', 'pthread_mutex_lock', '#include <pthread.h>\nvoid f(pthread_mutex_t* m) { pthread_mutex_lock(m); }\n'],
    ['memory', 'operator new', 'int* f() { return new int(1); }\n'],
    ['malloc', 'malloc', '#include <stdlib.h>\nvoid* f(size_t n) { return malloc(n); }\n'],
    ['a thread-local variable', '__tls_get_addr', 'thread_local int g;\nint* f() { return &g; }\n'],
    ['a static guard', '__cxa_guard_acquire', 'int h();\nint f() { static int g = h(); return g; }\n'],
    ['a function of normal code', 'normal()', 'void normal();\nvoid f() { normal(); }\n'],
  ])('%s is found', async (_what, symbol, text) => {
    compile('fault/planted_inside.cc', text);
    const run = await check(folder);
    expect(run.status).toBe(1);
    expect(run.stderr).toContain(`fault/planted_inside.o needs ${symbol}`);
  });

  test('system calls and what another handler object defines are not', async () => {
    compile('fault/other_inside.cc', 'int g() { return 1; }\n');
    compile('fault/fine_inside.cc', '#include <unistd.h>\nint g();\nint f() { return g() + getpid(); }\n');
    expect(await check(folder)).toMatchObject({ status: 0, stderr: '' });
  });

  test('no objects are an error', async () => {
    expect(await check(folder)).toMatchObject({ status: 1 });
  });
});
