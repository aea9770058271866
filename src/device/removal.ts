/** The removal of a device whose ops run in this thread. */
import type { RevokeReport } from '../memory/revoke-report.js';
import { native } from '../native/load.js';
import { goneError } from './device-errors.js';
import type { DeviceRegion } from './device-region.js';
import type { DeviceClient, RemovalReport } from './device-types.js';
import type { OpenFiles } from './open-files.js';
import type { Callers, RunningOps } from './running-ops.js';

/** The device that is removed, and what of it ends. */
interface Removable {
  readonly _id: number;
  readonly name: string;
  readonly opTimeout: number;
  readonly regions: readonly DeviceRegion[];
  readonly _clients: ReadonlySet<DeviceClient>;
  /** Does what other threads have asked for until now. */
  _workOff(): void;
  /** In this thread: files and waits end. */
  _endHere(): void;
  /** It is gone: native code forgets it. */
  _forget(): void;
  /** Emits the last event. */
  _removed(report: RemovalReport, then: () => void): void;
}

/** How many mappings there were, and the revocation of each region, under way. */
interface Begun {
  mappings: number;
  revocations: readonly ((reason: unknown) => Promise<RevokeReport>)[];
}

/** The gate of the device has been shut. */
function beginRevoking({ _id: id, regions }: Removable): Begun {
  const mappings = native.deviceMappings(id);
  return { mappings, revocations: regions.map(({ object }) => object._beginRevoking()) };
}

/** A removal under way, or done. */
interface Reports {
  /** Resolves when it is complete. */
  readonly whole: Promise<RemovalReport>;
  /** Resolves when nothing is left to do but to wait for the ops that have called for it. */
  readonly butCallers: Promise<RemovalReport>;
}

export class Removal {
  #reports: Reports | undefined;
  /** Mappings that have ended while the removal waits for running ops: `close` comes after. */
  #endedMeanwhile: (() => void)[] | undefined;

  constructor(
    readonly device: Removable,
    readonly files: OpenFiles,
    readonly running: RunningOps,
  ) {}

  get hasBegun(): boolean {
    return this.#reports !== undefined;
  }

  /** `callers`: the ops that call for it, and that it therefore does not wait for. */
  async unplug(reason: unknown, callers: Callers): Promise<RemovalReport> {
    const mine = native.deviceShut(this.device._id);
    // First of all: threads that wait for a page go on, whatever the listeners of all that follows do.
    const begun = this.hasBegun ? undefined : beginRevoking(this.device);
    this.running.remove(callers);
    const { whole, butCallers } = this.#reports ?? this.#begin(reason, begun!);
    return (callers.size === 0 ? whole : butCallers).then((report) => ({ ...report, removedByThisCall: mine }));
  }

  /** Calls the `close` op of a mapping, at once or in its place in the removal. */
  closeMapping(close: () => void): void {
    if (this.#endedMeanwhile === undefined) close();
    else this.#endedMeanwhile.push(close);
  }

  /** Known before listeners hear of it: they may call for it too. */
  #begin(reason: unknown, begun: Begun): Reports {
    let doneButCallers!: (report: RemovalReport) => void;
    let done!: (report: Promise<RemovalReport>) => void;
    this.#reports = {
      whole: new Promise((resolve) => (done = resolve)),
      butCallers: new Promise((resolve) => (doneButCallers = resolve)),
    };
    done(this.#remove(reason, begun, doneButCallers));
    return this.#reports;
  }

  /** The gate has been shut. */
  async #remove(
    reason: unknown,
    { mappings, revocations }: Begun,
    doneButCallers: (report: RemovalReport) => void,
  ): Promise<RemovalReport> {
    const { device, files, running } = this;
    const opened = files.count;
    this.#endedMeanwhile = [];
    const gone = goneError('unplug');
    const revoked = Promise.all(revocations.map((go) => go(reason ?? gone)));
    for (const client of device._clients) client.gone();
    for (const region of device.regions) region._end();
    files.endWait();
    device._endHere();
    running.abortAll(gone);
    const regions = await revoked;
    const end = performance.now() + device.opTimeout;
    await running.drainOthers(end);
    device._workOff();
    for (const close of this.#endedMeanwhile) close();
    this.#endedMeanwhile = undefined;
    files.releaseAll();
    device._forget();
    const report = { device: device.name, removedByThisCall: true, regions, mappings, files: opened };
    doneButCallers({ ...report, abandonedOps: running.abandoned });
    await running.drain(end);
    const whole = { ...report, abandonedOps: running.abandoned };
    device._removed(whole, () => {
      for (const client of device._clients) client.removed(whole);
    });
    return whole;
  }
}
