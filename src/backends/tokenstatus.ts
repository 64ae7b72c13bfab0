/** What `latchkey status` tells of a token. */

export interface TokenStatus {
  readonly label: string;
  readonly slot: number;
  /** As of the last request that could tell. */
  readonly present: boolean;
  readonly keys: number;
  /** Types of its keys, each once: what it can sign as. */
  readonly types: readonly string[];
  /** It wants a login; nobody needs a PIN for another. */
  readonly wantsPin: boolean;
  /** The PIN is typed at its reader. */
  readonly pinPad: boolean;
  readonly loggedIn: boolean;
  readonly pinLocked: boolean;
  /** The next wrong PIN locks it. */
  readonly lastTry: boolean;
}

function pinText({ wantsPin, pinPad, loggedIn, pinLocked, lastTry }: TokenStatus): string {
  if (pinLocked) return 'PIN LOCKED';
  if (!wantsPin) return 'wants no PIN';
  if (loggedIn) return 'logged in';
  const where = pinPad ? ' at its reader' : '';
  return lastTry ? `PIN wanted${where}: ONE TRY IS LEFT` : `PIN wanted${where}`;
}

/** One line: what it can, whether it is there, and how it is with its PIN. The label was made visible before. */
export function tokenText(token: TokenStatus): string {
  const { label, present, keys, types } = token;
  const can = types.length === 0 ? '' : ` (${types.join(', ')})`;
  return `${label}: ${keys} keys${can}, ${present ? `there, ${pinText(token)}` : 'NOT THERE'}`;
}
