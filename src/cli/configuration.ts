/**
 * The owner's configuration file, config.toml (docs/configuration.md): reading it, safely. What may stand in it is in
 * configurationschema.ts, which is loaded only where there is a file.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { basename } from 'node:path';
import { systemErrorText } from './errors.ts';
import { shown } from './output.ts';
import { type Configuration, type ConfigurationError, defaultConfiguration, MAX_FILE_BYTES } from './settings.ts';

export { type ConfigurationWatch, watchConfiguration } from './configurationwatch.ts';
export { type Configuration, type ConfigurationError, defaultConfiguration, type Settings } from './settings.ts';

export type Loaded =
  | { readonly configuration: Configuration; readonly missing: boolean }
  | { readonly errors: readonly ConfigurationError[] };

/** The file is not to be read: the words say why. */
class Unusable extends Error {}

function readAll(fd: number, size: number): Uint8Array {
  // One more than there was: what grows meanwhile is not half a file.
  const bytes = new Uint8Array(size + 1);
  let at = 0;
  for (let count = -1; count !== 0 && at < bytes.length; at += count)
    count = readSync(fd, bytes, at, bytes.length - at, null);
  if (at > size) throw new Unusable('changed while it was read');
  return bytes.subarray(0, at);
}

/** The text of the file at `path`. @throws Unusable, Error with the system's code */
function readText(path: string): string {
  // Not held up by a pipe in its place.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const { mode, uid, size } = fstatSync(fd);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw new Unusable('is not a file');
    // As ssh does with ~/.ssh/config: who may write it decides what is signed.
    if (uid !== 0 && uid !== process.geteuid?.()) throw new Unusable('belongs to another user: it has to be yours');
    if ((mode & 0o022) !== 0)
      throw new Unusable('may be written by others, who could change the rules. To put that right: chmod go-w');
    if (size > MAX_FILE_BYTES) throw new Unusable(`is longer than ${MAX_FILE_BYTES} bytes`);
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(readAll(fd, size));
    } catch (error) {
      if (error instanceof TypeError) throw new Unusable('is not UTF-8');
      throw error;
    }
  } finally {
    closeSync(fd);
  }
}

/** Reads and checks the configuration file at `path`; a missing one is the defaults. Never throws for what a file holds. */
export async function loadConfiguration(path: string): Promise<Loaded> {
  const name = shown(basename(path));
  let content: string;
  try {
    content = readText(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return { configuration: defaultConfiguration, missing: true };
    if (!(error instanceof Unusable) && code === undefined) throw error;
    const text = error instanceof Unusable ? `${name} ${error.message}` : `${name}: ${systemErrorText(error)}`;
    return { errors: [{ line: undefined, text }] };
  }
  const { parseConfiguration } = await import('./configurationschema.ts');
  const result = parseConfiguration(content, name);
  return 'errors' in result ? result : { ...result, missing: false };
}
