/** Pages that the device is asked for, and the answers of its `fault` and `pageMkwrite` ops. */
import { asBytes, isIntact } from '../arguments.js';
import { CONSTRUCT } from '../brands.js';
import { DeviceOpError } from '../errors.js';
import { FAULT_ANSWERS } from '../native/enums.js';
import { native } from '../native/load.js';
import { AskedPage, placeOf } from './asked-page.js';
import { goneError, unreadableAnswer } from './device-errors.js';
import type { FaultAnswer, FaultedPage } from './device-ops.js';
import type { DeviceRegion } from './device-region.js';
import type { OpCalls, OpOwner } from './op-calls.js';
import { isThenable, RunningOp } from './running-ops.js';

const [CONTENT, AS_IT_IS, REFUSED, FAILED] = (['content', 'as-it-is', 'refused', 'failed'] as const).map((kind) =>
  FAULT_ANSWERS.indexOf(kind),
);

interface PageOwner extends OpOwner {
  readonly regions: readonly DeviceRegion[];
}

export class PageRequests {
  /** Asked and not answered, by token. */
  readonly #pages = new Map<number, AskedPage>();

  constructor(
    readonly device: PageOwner,
    readonly calls: OpCalls,
  ) {}

  /** Calls the op. The request's numbers begin at `at`: see takeDeviceWork. */
  ask(name: 'fault' | 'pageMkwrite', token: number, work: Float64Array, at: number): void {
    const page = new AskedPage(CONSTRUCT, new RunningOp(name, work[at + 1], token), work, at);
    this.calls.count(name);
    let answer: FaultAnswer | PromiseLike<FaultAnswer>;
    try {
      answer = this.calls.running.start(page._op, name === 'fault' ? this.#callFault : this.#callPageMkwrite, page);
    } catch (error) {
      return this.#failed(page, error);
    }
    if (isThenable(answer)) this.#promised(page, answer);
    else this.#answer(page, answer);
  }

  readonly #callFault = (page: FaultedPage): FaultAnswer | Promise<FaultAnswer> => this.calls.ops.fault!(page);
  readonly #callPageMkwrite = (page: FaultedPage): FaultAnswer | Promise<FaultAnswer> => this.calls.ops.pageMkwrite!(page);

  #promised(page: AskedPage, answer: PromiseLike<FaultAnswer>): void {
    const { token } = page._op;
    this.#pages.set(token, page);
    void this.calls.running
      .settle(page._op, answer)
      .then(
        (content) => this.#answer(page, content),
        (error: unknown) => this.#failed(page, error),
      )
      .finally(() => this.#pages.delete(token));
  }

  #answer(page: AskedPage, content: FaultAnswer): void {
    if (content === 'sigbus') {
      this.#answerPage(page, REFUSED);
      if (!page.signal.aborted) this.device._opFailed({ op: page._op.name, cause: 'refused', ...placeOf(page) });
    } else if (content === undefined || content === null) {
      this.#answerPage(page, AS_IT_IS);
    } else if (ArrayBuffer.isView(content) && isIntact(content)) {
      this.#answerPage(page, CONTENT, content instanceof Uint8Array ? content : asBytes(content));
    } else {
      const what = ArrayBuffer.isView(content)
        ? 'answered with bytes whose buffer has been detached or shortened'
        : `answered ${typeof content}, not a Uint8Array, 'sigbus' or undefined`;
      this.#failed(page, new DeviceOpError(this.device.name, page._op.name, what));
    }
  }

  #failed(page: AskedPage, error: unknown): void {
    this.#answerPage(page, FAILED);
    if (!page._op.hasObeyed(error)) this.device._opFailed({ op: page._op.name, cause: 'failed', error, ...placeOf(page) });
  }

  #answerPage(page: AskedPage, kind: number, content?: Uint8Array): void {
    const { token } = page._op;
    const answered = native.answerFault(token, kind, content, content === undefined ? 0 : this.#bytesFrom(page));
    if (typeof answered === 'object') {
      return this.#failed(page, unreadableAnswer(this.device.name, page._op.name, answered));
    }
    if (answered || this.#pages.has(token)) return;
    // The request has ended. If its time was up, that is about to be reported, and the page is to be named then.
    this.#pages.set(token, page);
    queueMicrotask(() => this.#pages.delete(token));
  }

  /** Bytes of the region, to the end of its last page. */
  #bytesFrom(page: AskedPage): number {
    const { size } = this.device.regions[page.region];
    return Math.ceil(size / native.pageSize) * native.pageSize - page.offset;
  }

  /** The op's time is up. */
  expired(token: number): void {
    // Unknown when the op was not even called: the thread was busy all the time.
    const asked = this.#pages.get(token);
    const op = asked?._op.name ?? 'fault';
    const error = new DeviceOpError(this.device.name, op, 'did not answer in time', 'ERR_DEVICE_OP_TIMEOUT');
    this.calls.running.abandon(token, error);
    this.device._opFailed({ op, cause: 'no-answer', ...(asked === undefined ? {} : placeOf(asked)) });
  }

  /** The mapping has ended: its pages are no longer waited for. */
  abortOf(mapping: number): void {
    for (const page of this.#pages.values()) if (page.mapping === mapping) page._op.abort(goneError('munmap'));
  }
}
