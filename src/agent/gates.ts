/** What is served where, and how records call it, by the kind of request: tables, so that no kind is forgotten. */
import { REQUEST_NUMBERS, type Request } from '../wire/requests.ts';
import type { Use } from './ports.ts';

/**
 * What a locked agent does with each request. A binding only says where a connection goes and has to be known later
 * (CVE-2026-73281: refused while locked, a forwarded connection counted as local afterwards).
 */
export const whileLocked: Readonly<Record<Request['kind'], 'serve' | 'empty' | 'refuse'>> = {
  list: 'empty',
  unlock: 'serve',
  extension: 'serve', // session-bind alone; see #extension
  sign: 'refuse',
  add: 'refuse',
  remove: 'refuse',
  removeAll: 'refuse',
  addToken: 'refuse',
  removeToken: 'refuse',
  lock: 'refuse',
  unknown: 'refuse',
};

export const LOCKED = 'the agent is locked';

/** How a record calls each request. */
export const USES: Readonly<Record<Request['kind'], readonly [Use['kind'], string]>> = {
  list: ['list', 'list the keys'],
  sign: ['sign', 'sign'],
  add: ['add', 'add a key'],
  remove: ['remove', 'remove a key'],
  removeAll: ['remove-all', 'remove all keys'],
  addToken: ['add-token', 'load a token'],
  removeToken: ['remove-token', 'remove the keys of a token'],
  lock: ['lock', 'lock the agent'],
  unlock: ['unlock', 'unlock the agent'],
  extension: ['extension', 'an extension'],
  unknown: ['extension', 'an unknown request'],
};

/** Requests that fail by what is to be added; signatures write down their own failures. */
export const ADDING: ReadonlyMap<number | undefined, Request['kind']> = new Map([
  [REQUEST_NUMBERS.add, 'add'],
  [REQUEST_NUMBERS.addConstrained, 'add'],
  [REQUEST_NUMBERS.addToken, 'addToken'],
  [REQUEST_NUMBERS.addTokenConstrained, 'addToken'],
  [REQUEST_NUMBERS.removeToken, 'removeToken'],
]);

/** What only the owner may do, and nobody from another machine or through a guard (DESIGN section 5, the table's last row). */
export const ownersAlone: ReadonlySet<Request['kind']> = new Set([
  'add',
  'remove',
  'removeAll',
  'addToken',
  'removeToken',
  'lock',
  'unlock',
  'unknown',
]);
