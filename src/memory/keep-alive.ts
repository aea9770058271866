/**
 * Keeps a mapping's addresses valid, and closes a mapping that was forgotten.
 *
 * V8 unmaps a SharedArrayBuffer's memory when the last one of it is gone, in any thread. The registry must never hold a range
 * that has been unmapped, so each thread that has a handle also has a *keeper*, a second SharedArrayBuffer of the same memory
 * (structuredClone), and drops it only after the native handle has been given back.
 */
import { isSharedBuffer } from '../arguments.js';
import { forgetMapping } from '../thread/identities.js';
import type { MappingEntry } from '../thread/mapping-list.js';
import type { Mapping } from './mapping.js';
import { native } from '../native/load.js';
import type { WasmMemory } from './wasm-memory.js';

/** One thread's handle on a mapping. */
export interface Hold {
  entry: MappingEntry<Mapping>;
  /** Undefined for an external ArrayBuffer: its own finalizer closes the mapping before the memory is unmapped. */
  keeper: SharedArrayBuffer | undefined;
  /** A handle for other threads has been made. */
  shared: boolean;
  released: boolean;
  /** How many of the objects through which its memory can be reached have not been collected: buffer, WebAssembly.Memory. */
  ways: number;
}

const collected = new FinalizationRegistry(forgotten);

/** Shared by a thread that has forgotten them since, and attached by no thread yet: the handle may still be on its way. */
const onTheirWay = new Set<Hold>();

/**
 * Holds the mapping until {@link letGo}, or until `buffer` has been collected; inside the memory of a WebAssembly program, until
 * `memory` has been too: its instances keep that, and not the buffer, which is another one after each `grow()`.
 */
export function holdBuffer(
  entry: MappingEntry<Mapping>,
  buffer: SharedArrayBuffer | ArrayBuffer,
  memory: WasmMemory | undefined,
): Hold {
  const keeper = isSharedBuffer(buffer) ? structuredClone(buffer) : undefined;
  const ways = memory === undefined ? [buffer] : [buffer, memory];
  const hold: Hold = { entry, keeper, shared: false, released: false, ways: ways.length };
  for (const way of ways) collected.register(way, hold, hold);
  if (onTheirWay.size > 0) settleThoseOnTheirWay();
  return hold;
}

export function markShared(hold: Hold): void {
  hold.shared = true;
}

/** Gives the native handle back; with `close` the mapping ends for every thread. */
export function letGo(hold: Hold, close: boolean): void {
  if (hold.released) return;
  hold.released = true;
  native.release(hold.entry.id, close);
  hold.keeper = undefined;
  collected.unregister(hold);
}

function forgotten(hold: Hold): void {
  if (--hold.ways > 0) return;
  forgetMapping(hold.entry);
  if (hold.shared && !native.attached(hold.entry.id)) onTheirWay.add(hold);
  else letGo(hold, false);
}

function settleThoseOnTheirWay(): void {
  for (const hold of onTheirWay) {
    if (!native.attached(hold.entry.id)) continue;
    onTheirWay.delete(hold);
    letGo(hold, false);
  }
}
