/** Worker threads that touch mappings: while they wait for a page, this thread can supply it. */
import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Mapping } from 'revocable-mmap';

export interface Touch {
  value?: number;
  code?: string;
  cause?: string;
  offset?: number;
  bytesTransferred?: number;
}

export interface TouchOptions {
  how?: 'read8' | 'write8' | 'raw' | 'raw write' | 'read';
  value?: number;
  /** Of a bulk read. */
  length?: number;
  barrier?: { words: SharedArrayBuffer; count: number };
}

export class Toucher {
  /** The kernel's id of the thread. */
  tid = 0;
  readonly worker = new Worker(join(__dirname, '..', 'children', 'devices', 'toucher.cjs'));
  readonly #answers = new Map<number, { resolve: (touch: Touch) => void; reject: (error: unknown) => void }>();
  #next = 1;

  static async start(): Promise<Toucher> {
    const toucher = new Toucher();
    const [{ tid }] = (await once(toucher.worker, 'message')) as [{ tid: number }];
    toucher.tid = tid;
    toucher.worker.on('message', ({ id, ...touch }: Touch & { id: number }) => {
      toucher.#answers.get(id)?.resolve(touch);
      toucher.#answers.delete(id);
    });
    toucher.worker.on('error', (error) => {
      for (const { reject } of toucher.#answers.values()) reject(error);
    });
    return toucher;
  }

  async touch(mapping: Mapping, offset: number, options: TouchOptions = {}): Promise<Touch> {
    const handle = mapping.share();
    const id = this.#next++;
    const answer = new Promise<Touch>((resolve, reject) => this.#answers.set(id, { resolve, reject }));
    this.worker.postMessage({ id, handle, offset, how: 'read8', ...options });
    return answer;
  }

  async end(): Promise<void> {
    await this.worker.terminate();
  }
}
