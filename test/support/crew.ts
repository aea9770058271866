/** Worker threads that run functions on mappings. */
import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Mapping } from 'revocable-mmap';

export class CrewMember {
  /** The kernel's id of the thread. */
  tid = 0;
  readonly worker = new Worker(join(__dirname, '..', 'children', 'devices', 'any-body.cjs'));
  readonly #answers = new Map<number, { resolve: (value: any) => void; reject: (error: unknown) => void }>();
  #next = 1;

  static async start(): Promise<CrewMember> {
    const member = new CrewMember();
    const [{ tid }] = (await once(member.worker, 'message')) as [{ tid: number }];
    member.tid = tid;
    member.worker.on('message', ({ id, value, error }: { id: number; value: unknown; error: unknown }) => {
      const answer = member.#answers.get(id);
      member.#answers.delete(id);
      if (error === undefined) answer?.resolve(value);
      else answer?.reject(error);
    });
    const over = (error: unknown): void => {
      for (const { reject } of member.#answers.values()) reject(error);
    };
    member.worker.on('error', over);
    member.worker.on('exit', (code) => over(new Error(`the worker has ended with ${code}`)));
    return member;
  }

  /** Calls the body there, with the mapping attached. It sees nothing of its surroundings but `require` and the input. */
  run<T, I = undefined>(mapping: Mapping, body: (mapping: Mapping, input: I) => T | Promise<T>, input?: I): Promise<T> {
    const id = this.#next++;
    const handle = mapping.share();
    const answer = new Promise<T>((resolve, reject) => this.#answers.set(id, { resolve, reject }));
    this.worker.postMessage({ id, handle, body: body.toString(), input });
    return answer;
  }

  async end(): Promise<void> {
    await this.worker.terminate();
  }
}

export function startCrew(count: number): Promise<CrewMember[]> {
  return Promise.all(Array.from({ length: count }, () => CrewMember.start()));
}
