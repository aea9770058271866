import { branded, requireConstruct } from '../brands.js';
import { native } from '../native/load.js';
import type { DeviceFaultInfo } from './device-types.js';
import type { FaultedPage } from './device-ops.js';
import type { RunningOp } from './running-ops.js';

/** A page that the device is asked for. */
export class AskedPage implements FaultedPage {
  readonly region: number;
  readonly index: number;
  readonly offset: number;
  readonly mappingIndex: number;
  readonly mapping: number;
  readonly thread: number;
  readonly write: boolean;
  readonly present: boolean;
  readonly #op: RunningOp;

  static {
    branded('FaultedPage', this.prototype, (value) => #op in value);
  }

  /** The request's numbers begin at `at`: see takeDeviceWork. */
  constructor(key: symbol, op: RunningOp, work: Float64Array, at: number) {
    requireConstruct(key);
    this.mapping = work[at];
    this.region = work[at + 1];
    this.mappingIndex = work[at + 2];
    this.offset = work[at + 3];
    this.index = this.offset / native.pageSize;
    this.thread = work[at + 4];
    this.write = (work[at + 5] & 1) !== 0;
    this.present = (work[at + 5] & 2) !== 0;
    this.#op = op;
  }

  get signal(): AbortSignal {
    return this.#op.signal;
  }

  /** @internal */
  get _op(): RunningOp {
    return this.#op;
  }
}

export function placeOf(page: FaultedPage): Pick<DeviceFaultInfo, 'region' | 'index' | 'thread'> {
  return { region: page.region, index: page.index, thread: page.thread };
}
