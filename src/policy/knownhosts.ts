/** What known_hosts files say about a host: read on the floor below, since the backend that reads the files stands beside us. */
export {
  type HostNames,
  hostKeysFor,
  type KnownHostsFile,
  MAX_PATTERN_CHARACTERS,
} from '../keys/knownhosts.ts';
