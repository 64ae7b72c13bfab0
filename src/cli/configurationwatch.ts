/** Notices that the configuration file changed, however it is replaced, and that it comes or goes. */
import { existsSync, type FSWatcher, realpathSync, statSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';

/** An editor writes, renames and sets modes in turn: all that is one change. */
const SETTLE_MS = 100;

export interface ConfigurationWatch {
  close(): void;
}

/** What differs when the file does: a change of its mode counts, since it may make the file unusable. */
function signature(path: string): string {
  try {
    const { dev, ino, mode, uid, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [dev, ino, mode, uid, size, mtimeNs, ctimeNs].join(' ');
  } catch {
    return '';
  }
}

/** The folder whose entries tell of `path`, and the entry: while folders are missing, of the first that is to come. */
function placeOf(path: string): { readonly folder: string; readonly entry: string } {
  let [folder, entry] = [dirname(path), basename(path)];
  while (!existsSync(folder) && dirname(folder) !== folder) [folder, entry] = [dirname(folder), basename(folder)];
  return { folder, entry };
}

function placesOf(path: string): readonly { readonly folder: string; readonly entry: string }[] {
  const places = [placeOf(path)];
  try {
    // A link that a program for dotfiles made: what it leads to may be written in place.
    const real = realpathSync(path);
    if (real !== path) places.push(placeOf(real));
  } catch {
    // Missing.
  }
  return places;
}

/**
 * Calls `onChange` after the file at `path`, or what a link there leads to, has changed, come or gone. Keeps no process
 * alive.
 * @param onTrouble is told once where the system cannot watch: changes then go unnoticed
 */
export function watchConfiguration(
  path: string,
  onChange: () => void,
  onTrouble: (text: string) => void = () => {},
): ConfigurationWatch {
  let watchers: FSWatcher[] = [];
  let timer: NodeJS.Timeout | undefined;
  let seen = signature(path);
  let closed = false;
  let troubled = false;

  const trouble = (error: unknown): void => {
    if (!troubled) onTrouble(error instanceof Error ? error.message : 'cannot watch');
    troubled = true;
  };
  const release = (): void => {
    for (const watcher of watchers) watcher.close();
    watchers = [];
  };
  const settle = (): void => {
    timer = undefined;
    // Anew each time: folders may have come, gone or been replaced under the same name.
    arm();
    const now = signature(path);
    if (now === seen) return;
    seen = now;
    onChange();
  };
  const noticed = (): void => {
    if (closed || timer !== undefined) return;
    timer = setTimeout(settle, SETTLE_MS);
    timer.unref();
  };
  const arm = (): void => {
    release();
    for (const { folder, entry } of placesOf(path)) {
      try {
        const own = basename(folder);
        const watcher = watch(folder, { persistent: false }, (_event, name) => {
          // The folder's own name: it was moved or removed.
          if (name === null || name === entry || name === own) noticed();
        });
        watcher.on('error', trouble);
        watchers.push(watcher);
      } catch (error) {
        trouble(error);
      }
    }
  };
  arm();
  if (signature(path) !== seen) noticed();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      release();
    },
  };
}
