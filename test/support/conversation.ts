/** A child process to talk with: it prints JSON lines, and reads lines from its standard input. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface Ending {
  /** Exit status, null when a signal killed it. */
  status: number | null;
  signal: NodeJS.Signals | null;
  stderr: string;
}

export interface Conversation {
  pid: number;
  say(line: string): void;
  /** The child's next line; rejects when it ends or keeps silent for `limit` milliseconds. */
  hear<T>(limit?: number): Promise<T>;
  /** Closes the child's input and waits for its end. */
  end(limit?: number): Promise<Ending>;
}

export interface ConversationOptions {
  args?: (string | number)[];
  env?: Record<string, string>;
  nodeArgs?: string[];
  /** Descriptors of this process that become 3, 4, … in the child. */
  fds?: number[];
  /** The user it runs as; this process must be root's. */
  uid?: number;
  /** Another Node. */
  node?: string;
}

/** Starts a program of `test/children/`. */
export function converse(name: string, options: ConversationOptions = {}): Conversation {
  const program = join(__dirname, '..', 'children', name);
  const argv = [...(options.nodeArgs ?? []), program, ...(options.args ?? []).map(String)];
  const child = spawn('sh', ['-c', 'ulimit -c 0; exec "$0" "$@"', options.node ?? process.execPath, ...argv], {
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe', ...(options.fds ?? [])],
  });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin!.on('error', () => undefined); // it may be dead already: `end` tells
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const ended = new Promise<Ending>((resolve) => child.on('close', (status, signal) => resolve({ status, signal, stderr })));

  const within = async <T>(what: string, promise: Promise<T>, limit: number): Promise<T> => {
    let timer: NodeJS.Timeout | undefined;
    const hung = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        child.kill('SIGKILL');
        reject(new Error(`${name}: waited ${limit} ms in vain for ${what}\n${stderr}`));
      }, limit);
    });
    return Promise.race([promise, hung]).finally(() => clearTimeout(timer));
  };

  return {
    pid: child.pid!,
    say: (line) => void child.stdin!.write(`${line}\n`),
    hear: async <T>(limit = 60_000) => {
      const next = await within('a line', lines.next(), limit);
      if (next.done === true) throw new Error(`${name} ended instead of saying something: ${JSON.stringify(await ended)}`);
      return JSON.parse(next.value) as T;
    },
    end: (limit = 60_000) => {
      child.stdin!.end();
      return within('its end', ended, limit);
    },
  };
}
