/** How long the path of a Unix socket may be. Windows has no such bound: there it is a pipe's name. */

function longest(): number {
  if (process.platform === 'win32') return Number.POSITIVE_INFINITY;
  return process.platform === 'linux' ? 107 : 103;
}

/** sockaddr_un's room for a path, in bytes, without its NUL. */
export const MAX_SOCKET_PATH: number = longest();
