/** The native functions of simulated devices: see `functions.ts`. */
import type { Failure } from './functions.js';

export interface RegionOrder {
  index: number;
  size: number;
  name: string;
  /** Accesses go to a model, not to memory. */
  registers: boolean;
  /** An index into {@link SUPPLIES}, or -1: shared memory as any other. */
  supply: number;
  content: Uint8Array | undefined;
  seed: number;
  around: number;
  askBeforeWrite: boolean;
  model: object | undefined;
  /** Of the supply `elsewhere`: the socket on which pages are asked for, which is duplicated; else -1. */
  source: number;
  /** Such pages this thread would have to bring itself. */
  ownerServes: boolean;
  /** Memory that another process made, which is duplicated; -1: memory of the library's own. */
  descriptor: number;
  /** Of a descriptor: it is open for writing. */
  writable: boolean;
}

export interface DeviceFunctions {
  /** A simulated device whose ops run in this thread. */
  deviceCreate(name: string, limitMs: number): number;
  /** Starts what supplies pages: needed before the first region with a supply. `asked`: this thread will be asked for some. */
  pagerStart(writeFaults: boolean, asked: boolean): Failure | null;
  /** A region's memory object. */
  deviceRegion(deviceId: number, region: RegionOrder): number | Failure;
  /** How many milliseconds an op may take; its name. */
  deviceLimit(deviceId: number): number;
  deviceName(deviceId: number): string;
  /** 0: there. 1: shut. 2: forgotten. */
  deviceState(deviceId: number): number;
  /** From now on nothing is mapped, asked or called; true when this call did it. */
  deviceShut(deviceId: number): boolean;
  /** Shuts it and revokes its regions, in this call: its thread ends. */
  deviceAbandon(deviceId: number): void;
  deviceForget(deviceId: number): void;
  /** How many of its mappings are open, in all threads. */
  deviceMappings(deviceId: number): number;
  /** What there is to do, {@link WORK_NUMBERS} numbers each: {@link WORK_KINDS}, token, and what the kind says. */
  takeDeviceWork(deviceId: number, numbers: Float64Array): number;
  /** True if a page that was asked for is still waited for. */
  faultIsAsked(token: number): boolean;
  accessIsAsked(token: number): boolean;
  /**
   * Answers a fault: an index into {@link FAULT_ANSWERS}, and content, of which `most` bytes are wanted. False when no thread waits for it any
   * more. Nothing is answered where the content cannot be read: `EDEADLK` where this thread would have to supply it itself.
   */
  answerFault(token: number, kind: number, content?: Uint8Array, most?: number): boolean | Failure;
  selfFaults(id: number): number;
  /** Asks the device's owner, with {@link CALL_NUMBERS} numbers; a token to wait with, or 0 when the device is gone. */
  deviceCall(deviceId: number, numbers: Float64Array): number;
  /** True if it has been settled. */
  deviceCallWait(token: number, milliseconds: number): boolean;
  /**
   * Waits no longer. The message of an error that has no errno; `numbers` gets a {@link CALL_ANSWER}, whose result is an index into
   * {@link CALL_RESULTS}. `withdraw`: an op that has not been called yet never will be.
   */
  deviceCallEnd(token: number, numbers: Float64Array, withdraw: boolean): string;
  /** Begins a trace of the device's registers, with room for so many accesses. A token. */
  traceOpen(deviceId: number, capacity: number): number | Failure;
  /**
   * Takes accesses, in order: how many. `numbers` gets a {@link TRACE_HEAD} (how many were lost before them, and whether nothing more will
   * come), and for each access a {@link TRACE_ACCESS}: its time in milliseconds since the trace began, its flags {@link TRACE_FLAGS}. Once
   * there is nothing, this thread is rung as soon as there is.
   */
  traceTake(token: number, numbers: Float64Array): number;
  /** How many have been lost, ever. */
  traceLost(token: number): number;
  traceStop(token: number): void;
  traceClose(token: number): void;
  /** Index of a word in {@link status}: 0 while no trace of the device records. */
  traceWord(deviceId: number): number;
  /** Traces an access that JavaScript has answered: a {@link TRACE_ACCESS}, whose time is now. */
  traceAccess(deviceId: number, numbers: Float64Array): void;
  /** Answers a call with a {@link CALL_ANSWER}, whose result is not looked at. True if the caller still waited for it. */
  answerCall(deviceId: number, token: number, numbers: Float64Array, message: string): boolean;
  /** A number that no other call in this process gets. */
  token(): number;
  /** The kernel's id of the calling thread. */
  threadId(): number;
  /**
   * Which device's region an object is. `native`: its registers have a model in native code; `asking`: for some of them JavaScript answers
   * all the same; `raw`: raw accesses reach them.
   * `supplied`: its pages come at their first touch; `asksBeforeWrite`: and the first write to each is asked about; `asks`: its ops may be
   * asked then.
   */
  objectDevice(objectId: number): {
    device: number;
    region: number;
    registers: boolean;
    native: boolean;
    asking: boolean;
    raw: boolean;
    supplied: boolean;
    asksBeforeWrite: boolean;
    asks: boolean;
  } | null;
  /**
   * A model; of each register six numbers: offset, width, index into {@link REGISTER_KINDS}, the value's low and high 32 bits, and when
   * JavaScript answers: {@link ASKS_READS}, {@link ASKS_WRITES}.
   */
  registerFile(numbers: Float64Array, ones: boolean): object;
  /** Gets or sets the value of one of its registers, without the effects of an access; low and high 32 bits in `numbers`. */
  registerValue(model: object, index: number, numbers: Float64Array, set: boolean): void;
  /** True if it is an External of include/revocable-mmap/register-model.h. */
  isRegisterModel(value: unknown): boolean;
  /**
   * What a raw access that reads and writes puts where the model has just read a value: its low and high 32 bits in `numbers`. False
   * when it puts nothing.
   */
  combineAccess(deviceId: number, token: number, low: number, high: number, numbers: Float64Array): boolean;
  /** The model's answer to a raw access. False when no thread waits for it any more. */
  answerAccess(deviceId: number, token: number, failed: boolean, low: number, high: number): boolean;
  /**
   * One access to a register whose model is native code; its value's low and high 32 bits are in `numbers`. False when it is gone; null
   * when JavaScript answers, and nothing has been done.
   */
  registerAccess(objectId: number, write: boolean, offset: number, width: number, numbers: Float64Array): boolean | null;
  /**
   * What native code does for an access that JavaScript answers, which is not traced by it: a {@link REGISTER_ACCESS}. Also when the device
   * has gone meanwhile.
   */
  registerAccessAsked(model: object, objectId: number, numbers: Float64Array): void;
  /**
   * How many raw accesses did not reach the model of the mapping's registers; of the last one, an index into CAUSES, and the offset. -1
   * while none does: the device is going, or suspended.
   */
  rawFailures(id: number, numbers: Float64Array): number;
  eventfdOpen(): number | Failure;
  eventfdSignal(fd: number): void;
}
