/** Buffers that can be detached and shortened, which the types of ES2023 know nothing of. */
export interface Resizable extends ArrayBuffer {
  resize(bytes: number): void;
}

/** One of so many bytes, that may have `most`. */
export function resizable(bytes: number, most = bytes): Resizable {
  const Buffer = ArrayBuffer as unknown as new (bytes: number, options: { maxByteLength: number }) => Resizable;
  return new Buffer(bytes, { maxByteLength: most });
}

export function detach(buffer: ArrayBufferLike): void {
  structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
}
