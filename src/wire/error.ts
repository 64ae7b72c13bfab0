/**
 * What can be wrong with bytes that a peer sent. The text names the field and never quotes what it holds, since the
 * field may be secret.
 */
export type WireErrorCode =
  | 'short' // the field ends before its length says
  | 'trailing' // bytes are left after the last field
  | 'too-long' // a length or a count is above its named bound
  | 'bad-value' // a value that the field may not have
  | 'bad-text' // not UTF-8, or a NUL in a string that C programs read
  | 'unknown-type' // a key type that has no shape here
  | 'unknown-constraint'
  | 'repeated-constraint';

export class WireError extends Error {
  readonly code: WireErrorCode;
  readonly field: string;

  constructor(code: WireErrorCode, field: string, detail?: string) {
    super(detail === undefined ? `${field}: ${code}` : `${field}: ${code} (${detail})`);
    this.name = 'WireError';
    this.code = code;
    this.field = field;
  }
}
