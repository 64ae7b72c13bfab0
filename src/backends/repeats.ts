/**
 * Floods of requests that come to nothing (refused, malformed, lists), counted instead of written one by one, so that
 * nobody who may only ask can push the history out of its bounds. What was allowed and used or changed something is never
 * merged. Pure: time comes in.
 */
import type { Use } from '../agent/ports.ts';

/** Equal uses of a peer in a row, within REPEAT_WINDOW_MS, that are written one by one. */
export const MAX_EQUAL_USES = 20;
export const REPEAT_WINDOW_MS = 1000;
/** Uses of a peer, equal or not, before it counts as flooding; it gets one back each REFILL_MS. */
export const MAX_BURST = 300;
export const REFILL_MS = 10_000;
/** A flood has a record this often at least. */
export const MAX_HOLD_MS = 60_000;
/** Peers that are told apart; beyond it, the one that was quiet longest is forgotten. */
export const MAX_PEERS = 256;

/** Uses that stand in one record. */
export interface Held {
  readonly id: string;
  /** The last of them. */
  use: Use;
  /** Of the last of them, in milliseconds. */
  time: number;
  count: number;
  /** They are not all alike. */
  mixed: boolean;
  /** When it is to be written, at the latest. */
  readonly dueAt: number;
}

interface PeerState {
  last: string;
  /** Uses like `last` in a row since `since`. */
  run: number;
  since: number;
  room: number;
  refilledAt: number;
  held: Held | undefined;
  /** How long the next one is held. */
  holdMs: number;
}

export type Taken =
  /** It gets a record of its own, after those of `before`. */
  | { readonly kind: 'alone'; readonly before: readonly Held[] }
  | { readonly kind: 'held'; readonly before: readonly Held[]; readonly held: Held };

function mayBeMerged({ kind, outcome }: Use): boolean {
  if (outcome !== 'allowed') return true;
  return kind === 'list' || kind === 'bind' || kind === 'connection' || kind === 'extension';
}

function peerOf({ peer, guard }: Use): string {
  return `${peer?.uid} ${peer?.pid} ${guard ?? ''}`;
}

function sameness({ kind, outcome, sentence, reason, key, forwarded }: Use): string {
  return [kind, outcome, reason, key?.fingerprint, forwarded, sentence].join('\n');
}

/** What the one record says. */
export function mergedUse({ use, count, mixed }: Held): Use {
  return {
    ...use,
    ...(mixed ? { sentence: `${count} requests that differ, the last one: ${use.sentence}` } : {}),
    ...(count > 1 ? { repeated: count - 1 } : {}),
  };
}

export class Repeats {
  readonly #peers = new Map<string, PeerState>();
  readonly #newId: () => string;

  constructor(newId: () => string) {
    this.#newId = newId;
  }

  /** @param now milliseconds */
  take(use: Use, now: number): Taken {
    if (!mayBeMerged(use)) {
      if (this.#peers.size === 0) return { kind: 'alone', before: [] };
      const state = this.#peers.get(peerOf(use));
      return { kind: 'alone', before: state === undefined ? [] : this.#release(state) };
    }
    const before: Held[] = [];
    const state = this.#stateOf(peerOf(use), now, before);
    const likeness = sameness(use);
    const refilled = Math.max(0, Math.floor((now - state.refilledAt) / REFILL_MS));
    if (refilled > 0) {
      state.room = Math.min(MAX_BURST, state.room + refilled);
      state.refilledAt += refilled * REFILL_MS;
    }
    const isSame = state.last === likeness;
    const isFlood = state.room < 1;
    if (!isSame || now - state.since >= REPEAT_WINDOW_MS) {
      state.last = likeness;
      state.run = 0;
      state.since = now;
    }
    state.run++;
    const { held } = state;
    // A flood's record is not hurried by yet another kind of request.
    if (held !== undefined && ((!isFlood && !isSame) || now >= held.dueAt)) before.push(...this.#release(state));
    if (!isFlood && state.run <= MAX_EQUAL_USES) {
      state.room--;
      return { kind: 'alone', before };
    }
    if (state.held === undefined) {
      state.holdMs = isFlood ? Math.min(state.holdMs * 2, MAX_HOLD_MS) : REPEAT_WINDOW_MS;
      state.held = { id: this.#newId(), use, time: now, count: 1, mixed: false, dueAt: now + state.holdMs };
    } else {
      state.held.mixed ||= !isSame;
      state.held.use = use;
      state.held.time = now;
      state.held.count++;
    }
    return { kind: 'held', before, held: state.held };
  }

  /** All that are held now, and stay so. */
  held(): Held[] {
    return [...this.#peers.values()].flatMap(({ held }) => (held === undefined ? [] : [held]));
  }

  /** Those that have to be written by now. */
  due(now: number): Held[] {
    return [...this.#peers.values()].flatMap((state) =>
      state.held !== undefined && now >= state.held.dueAt ? this.#release(state) : [],
    );
  }

  /** Milliseconds until the next one is due; undefined: none is held. */
  wait(now: number): number | undefined {
    let next: number | undefined;
    for (const { held } of this.#peers.values())
      if (held !== undefined) next = Math.min(next ?? Number.POSITIVE_INFINITY, Math.max(0, held.dueAt - now));
    return next;
  }

  /** All that are held. */
  end(): Held[] {
    return [...this.#peers.values()].flatMap((state) => this.#release(state));
  }

  #release(state: PeerState): Held[] {
    const { held } = state;
    state.held = undefined;
    return held === undefined ? [] : [held];
  }

  #stateOf(peer: string, now: number, before: Held[]): PeerState {
    let state = this.#peers.get(peer);
    if (state === undefined) {
      state = {
        last: '',
        run: 0,
        since: now,
        room: MAX_BURST,
        refilledAt: now,
        held: undefined,
        holdMs: REPEAT_WINDOW_MS,
      };
      const oldest = this.#peers.size >= MAX_PEERS ? this.#peers.entries().next().value : undefined;
      if (oldest !== undefined) {
        this.#peers.delete(oldest[0]);
        before.push(...this.#release(oldest[1]));
      }
    } else this.#peers.delete(peer);
    // Last in the map: the order is that of use.
    this.#peers.set(peer, state);
    return state;
  }
}
