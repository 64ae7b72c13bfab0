/** What a certificate that is to be signed would say, in a few words: 'carl, 8 h, principals carl'. */
import { FOREVER } from '../wire/certificatebody.ts';
import type { UnsignedCertificate } from '../wire/signeddata.ts';
import { shown } from './names.ts';

const MAX_KEY_ID = 56;
const MAX_PRINCIPAL = 32;
const MAX_OPTION = 32;
/** Principals, and options, that are named; of the others the number. */
const MAX_LISTED = 4;

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** ssh-keygen sets the begin back by up to so much, in seconds, and a clock may be off by it. */
const SLACK = 5 * MINUTE;
/** The last second that a date can show: the year 9999. */
const MAX_DATE = 253_402_300_799n;

/** '8 h', '2 h 30 min', '90 d', '40 s': rounded to the minute, since asking takes time. */
export function durationText(seconds: number): string {
  if (seconds < MINUTE) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / MINUTE);
  const [days, hours] = [Math.round((minutes * MINUTE) / DAY), Math.floor(minutes / 60)];
  if (minutes * MINUTE >= 3 * DAY) return `${days} d`;
  const rest = minutes % 60;
  if (hours === 0) return `${minutes} min`;
  return rest === 0 ? `${hours} h` : `${hours} h ${rest} min`;
}

function dateText(seconds: bigint): string {
  if (seconds > MAX_DATE) return 'after the year 9999';
  return new Date(Number(seconds) * 1000).toISOString().slice(0, 10);
}

function timeText({ validAfter, validBefore }: UnsignedCertificate, nowSeconds: number): string {
  const now = BigInt(Math.floor(nowSeconds));
  const begin = validAfter > now + BigInt(SLACK) ? `from ${dateText(validAfter)}, ` : '';
  if (validBefore === FOREVER) return `${begin}for ever`;
  const start = begin === '' ? now : validAfter;
  if (validBefore <= start) return `${begin}never valid`;
  if (validBefore > MAX_DATE) return `${begin}until ${dateText(validBefore)}`;
  return `${begin}${durationText(Number(validBefore - start))}`;
}

function listText(names: readonly string[], max: number): string {
  const listed = names.slice(0, MAX_LISTED).map((name) => shown(name, max));
  const more = names.length - listed.length;
  return more === 0 ? listed.join(', ') : `${listed.join(', ')} and ${more} more`;
}

/** @param nowSeconds since 1970 */
export function certificateWords(certificate: UnsignedCertificate, nowSeconds: number): string {
  const { keyId, principals, criticalOptions } = certificate;
  const whom = principals.length === 0 ? 'any principal' : `principals ${listText(principals, MAX_PRINCIPAL)}`;
  const options = criticalOptions.length === 0 ? '' : `, options ${listText(criticalOptions, MAX_OPTION)}`;
  return `${shown(keyId, MAX_KEY_ID)}, ${timeText(certificate, nowSeconds)}, ${whom}${options}`;
}
