/** What a decoder threw, for tests that say which WireError must come. */
import { expect } from 'vitest';
import { WireError, type WireErrorCode } from '../../../src/wire/error.ts';

/** The WireError that `act` throws; fails for anything else. */
export function wireError(act: () => unknown): WireError {
  let thrown: unknown;
  try {
    act();
  } catch (error) {
    thrown = error;
  }
  if (thrown instanceof WireError) return thrown;
  if (thrown !== undefined) throw thrown;
  throw new Error('expected a WireError, got a value');
}

/** Asserts that `act` throws a WireError with this code and, where given, for this field. */
export function expectWireError(act: () => unknown, code: WireErrorCode, field?: string): void {
  const error = wireError(act);
  expect({ code: error.code, field: field === undefined ? undefined : error.field }).toEqual({ code, field });
}
