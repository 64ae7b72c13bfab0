/**
 * Command lines of well-known programs, as far as they say what is done and where: claims all of it. What may hold a secret
 * (values of options, and arguments of programs that are not known here) is passed over.
 */

/** Of OpenSSH's ssh: options that take a value. */
const SSH_VALUES = 'BbcDEeFIiJLlmOoPpQRSWw';

export interface SshArguments {
  /** As given, without the user and the port. */
  readonly host: string;
  /** Undefined: none was given, and the configuration may have one. */
  readonly port: string | undefined;
  /** HostName and HostKeyAlias of -o. */
  readonly aliases: readonly string[];
}

/** 'user@host', '[host]:22' and 'ssh://user@host:22/' in their parts. */
export function hostOf(word: string): { readonly host: string; readonly port: string | undefined } {
  const isUri = /^[a-z+]+:\/\//i.test(word);
  const bare = word.replace(/^[a-z+]+:\/\//i, '').replace(/^[^/]*@/, '');
  const bracketed = /^\[([^\]]*)\](?::(\d+))?/.exec(bare);
  if (bracketed !== null) return { host: bracketed[1] ?? '', port: bracketed[2] };
  if (!isUri) return { host: bare, port: undefined };
  const parts = /^([^/:]*)(?::(\d+))?/.exec(bare);
  return { host: parts?.[1] ?? '', port: parts?.[2] };
}

/** Undefined where `argv` names no host. */
export function sshArguments(argv: readonly string[]): SshArguments | undefined {
  let port: string | undefined;
  let target: string | undefined;
  const aliases: string[] = [];
  for (let i = 1; i < argv.length && target === undefined; i++) {
    const word = argv[i] ?? '';
    if (word === '--') target = argv[i + 1];
    else if (!word.startsWith('-') || word === '-') target = word;
    else {
      const at = [...word].findIndex((letter, j) => j > 0 && SSH_VALUES.includes(letter));
      if (at === -1) continue;
      const value = at + 1 < word.length ? word.slice(at + 1) : (argv[++i] ?? '');
      if (word[at] === 'p') port ??= value;
      if (word[at] !== 'o') continue;
      const [, name = '', given = ''] = /^\s*(\w+)\s*[=\s]\s*"?([^"]*)"?$/.exec(value) ?? [];
      if (/^port$/i.test(name)) port ??= given;
      else if (/^(?:hostname|hostkeyalias)$/i.test(name) && !given.includes('%')) aliases.push(given);
    }
  }
  if (target === undefined || target === '') return undefined;
  const { host, port: ofTarget } = hostOf(target);
  return host === '' ? undefined : { host, port: ofTarget ?? port, aliases };
}

const GIT_VALUES: ReadonlySet<string> = new Set([
  ...['-C', '-c', '--git-dir', '--work-tree', '--namespace', '--super-prefix', '--config-env', '--exec-path'],
]);

/** A word that is a command of a program and no argument: letters and hyphens. */
const COMMAND_WORD = /^[a-z][a-z0-9-]{0,31}$/;

/** 'push' of `git -C dir push origin`. */
export function gitCommand(argv: readonly string[]): string | undefined {
  for (let i = 1; i < argv.length; i++) {
    const word = argv[i] ?? '';
    if (GIT_VALUES.has(word)) i++;
    else if (!word.startsWith('-')) return COMMAND_WORD.test(word) ? word : undefined;
  }
  return undefined;
}

/** '[user@]host:path', 'host::module' and URIs: what scp, rsync and git take for a place on another machine. */
export function remotesIn(argv: readonly string[]): readonly string[] {
  return argv.slice(1).filter((word) => {
    if (word.startsWith('-') || word.length > 1024) return false;
    if (/^[a-z+]+:\/\//i.test(word)) return /^(?:ssh|sftp|scp|git\+ssh|ssh\+git):/i.test(word);
    return /^[^/:\s=]*(?:\[[^\]/]*\]|[^/:\s=]):/.test(word);
  });
}

/** The part of `remote` that names its host, as `remotesIn` found it. */
export function hostOfRemote(remote: string): ReturnType<typeof hostOf> {
  if (/^[a-z+]+:\/\//i.test(remote)) return hostOf(remote);
  const bracketed = /^(?:[^/@]*@)?\[[^\]]*\]/.exec(remote);
  return hostOf(bracketed?.[0] ?? remote.slice(0, remote.indexOf(':')));
}

/** Programs whose first word says what they do. */
const commanded: ReadonlySet<string> = new Set(
  'jj hg svn npm pnpm yarn cargo go docker terraform tofu gh glab kubectl nix vagrant packer cap fab brew'.split(' '),
);

/** What of `argv` may be shown beside the name of the program `name`: one word, or none. */
export function tellingWord(name: string, argv: readonly string[]): string | undefined {
  switch (name) {
    case 'git':
      return gitCommand(argv);
    case 'ssh':
    case 'slogin':
      return sshArguments(argv)?.host;
    case 'scp':
    case 'rsync':
    case 'sshfs': {
      const [remote] = remotesIn(argv);
      return remote === undefined ? undefined : hostOfRemote(remote).host;
    }
    case 'sftp': {
      const target = argv.at(-1);
      return argv.length < 2 || target === undefined || target.startsWith('-')
        ? undefined
        : hostOfRemote(`${target}:`).host;
    }
    case 'ansible-playbook': {
      const book = argv.slice(1).find((word) => /^[^-=\s][^=\s]*\.ya?ml$/.test(word));
      return book?.slice(book.lastIndexOf('/') + 1);
    }
    default: {
      const [, first] = argv;
      return commanded.has(name) && first !== undefined && COMMAND_WORD.test(first) ? first : undefined;
    }
  }
}
