/** A program of `test/children/` that answers questions while it runs, one at a time. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';

export interface Peer {
  pid: number;
  /** Sends a message and waits for the answer; rejects when the program ends instead, or after `limit` milliseconds. */
  ask<T>(message: unknown, limit?: number): Promise<T>;
  /** Disconnects and waits for its end. */
  end(): Promise<{ status: number | null; signal: NodeJS.Signals | null; stderr: string }>;
}

export function startPeer(name: string): Peer {
  const child = spawn(process.execPath, [join(__dirname, '..', 'children', name)], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise<{ status: number | null; signal: NodeJS.Signals | null; stderr: string }>((resolve) => {
    // Not 'close', which does not come after a disconnect from this side.
    child.on('exit', (status, signal) => resolve({ status, signal, stderr }));
  });
  return {
    pid: child.pid!,
    async ask<T>(message: unknown, limit = 60_000): Promise<T> {
      let timer: NodeJS.Timeout | undefined;
      const answer = new Promise<T>((resolve) => child.once('message', (value) => resolve(value as T)));
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(
          () => reject(new Error(`${name} did not answer ${JSON.stringify(message)} within ${limit} ms\n${stderr}`)),
          limit,
        );
      });
      const gone = ended.then(({ status, signal }) => {
        throw new Error(`${name} ended with ${status ?? signal} instead of answering ${JSON.stringify(message)}\n${stderr}`);
      });
      child.send(message as object);
      try {
        return await Promise.race([answer, late, gone]);
      } finally {
        clearTimeout(timer);
        gone.catch(() => {}); // it ends at some time, and by then no test asks
      }
    },
    end() {
      if (child.connected) child.disconnect();
      const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
      return ended.finally(() => clearTimeout(timer));
    },
  };
}
