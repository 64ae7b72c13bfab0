/**
 * Programs that hold the other end of a connection for somebody else: the one list of them. A name is what the kernel says
 * of the program's file, or for a hidden one what it says of itself: enough to be stricter for, never to trust.
 */

/** Makes 'socat passes on what others ask'. */
const WORDS = {
  /** Whoever connects to their other end speaks through them. */
  pipes: 'passes on what others ask',
  /** Their sessions belong to people at other machines, who reach this socket by `ssh -L`. */
  servers: 'lets in those who log in here from other machines',
  /** They hand SSH_AUTH_SOCK to builds and containers, which run what others wrote. */
  containers: 'hands the agent to containers',
  /** Their remote extensions offer the local agent on the far side. */
  editors: 'hands the agent to the machines and containers that it edits on',
  machines: 'hands the agent to virtual machines',
} as const;

const NAMES: Readonly<Record<keyof typeof WORDS, readonly string[]>> = {
  pipes: [
    ...['socat', 'nc', 'ncat', 'netcat', 'nc.openbsd', 'nc.traditional', 'systemd-socket-proxyd'],
    // Between Windows and its Linux machines.
    ...['npiperelay', 'wsl-relay', 'wsl2-ssh-agent', 'wsl2-ssh-pageant', 'wsl-ssh-agent', 'wsl'],
    // Agents that ask another agent.
    ...['ssh-agent-mux', 'ssh-agent-filter', 'ssh-agent-switcher'],
  ],
  servers: ['sshd', 'sshd-session', 'dropbear'],
  containers: [
    ...['docker', 'docker-buildx', 'docker-compose', 'docker-proxy', 'dockerd', 'buildctl', 'buildkitd', 'vpnkit'],
    ...['podman', 'buildah', 'nerdctl', 'rootlessport', 'limactl', 'gvproxy'],
  ],
  editors: ['code', 'code-insiders', 'code-oss', 'codium', 'vscodium', 'cursor', 'windsurf', 'code-server'],
  machines: ['crosvm', 'vhost-device-vsock'],
};

/** Beginnings of names. */
const PREFIXES: readonly (readonly [string, keyof typeof WORDS])[] = [
  ['com.docker.', 'containers'],
  ['qemu-system-', 'machines'],
];

/** Folders of programs with a name that says nothing: the node of an editor's far side. */
const FOLDERS = /\/\.(?:vscode|vscode-insiders|vscode-oss|vscodium|cursor|windsurf)-server\//;

const kinds: ReadonlyMap<string, keyof typeof WORDS> = new Map(
  (Object.keys(NAMES) as (keyof typeof WORDS)[]).flatMap((kind) => NAMES[kind].map((name) => [name, kind] as const)),
);

/** OpenSSH's client, and those that are it with changes: these bind each connection to their session. */
const SSH_CLIENTS: ReadonlySet<string> = new Set(['ssh', 'slogin', 'hpnssh', 'gsissh']);

/** Clients of the agent that let nobody look at them, since they hold secrets of their own. */
const SECRETIVE: ReadonlySet<string> = new Set(['keepassxc']);

/** File name of a program as others call it: one that was replaced since it started, or wrapped, is still that program. */
export function programName(path: string): string {
  const name = path.slice(path.lastIndexOf('/') + 1).replace(/ \(deleted\)$/, '');
  return name.replace(/^\.(.+)-wrapped$/, '$1').replace(/\.exe$/i, '');
}

/** What makes a program a relay, to follow its name; undefined: it is none that is known. */
export function relayedBy(path: string): string | undefined {
  const name = programName(path);
  const prefixed = PREFIXES.find(([prefix]) => name.startsWith(prefix))?.[1];
  const kind = kinds.get(name) ?? prefixed ?? (FOLDERS.test(path) ? 'editors' : undefined);
  return kind === undefined ? undefined : WORDS[kind];
}

export function isSshClient(path: string): boolean {
  return SSH_CLIENTS.has(programName(path));
}

/** Whether an honest program that calls itself so can't be looked at. */
export function mayHideItself(name: string): boolean {
  return SECRETIVE.has(name);
}
