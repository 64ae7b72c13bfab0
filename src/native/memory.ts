/** Giving memory back to the system: madvise(2) and glibc's malloc_trim(3), by their C names. No policy. */
import { bind, hasSymbol } from './libc.ts';

const madvise = bind<(address: bigint, length: number, advice: number) => number>(
  'int madvise(void *a, size_t length, int advice)',
);
const mallocTrim = bind<(pad: number) => number>('int malloc_trim(size_t pad)');

const MADV_DONTNEED = 4;

/**
 * Drops the pages of a mapping from this process. What was never written to comes back from its file when it is touched;
 * anything else would be lost.
 */
export function dropPages(address: number, length: number): void {
  madvise()(BigInt(address), length, MADV_DONTNEED);
}

let hasTrim: boolean | undefined;

/** Has the C library give free memory back, where it can (glibc). */
export function trimAllocator(): void {
  hasTrim ??= hasSymbol('malloc_trim');
  if (hasTrim) mallocTrim()(0);
}
