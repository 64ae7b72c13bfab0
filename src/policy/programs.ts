/**
 * What a process is by its name: a part of somebody's command, or one of those that commands are started from (shells that
 * wait for a person, terminals, login services, desktops, init).
 */
import type { PeerProcess } from './facts.ts';

const words = (text: string): readonly string[] => text.split(/\s+/).filter((word) => word !== '');

const shells: ReadonlySet<string> = new Set(
  words('sh bash rbash dash ash zsh fish ksh ksh93 mksh oksh yash tcsh csh nu elvish xonsh pwsh busybox'),
);

/** Programs that commands of a person are started from, and that are none themselves. */
const hosts: ReadonlySet<string> = new Set(
  words(`
    init systemd launchd runit s6-svscan openrc-init dumb-init tini catatonit docker-init upstart
    login sshd sshd-session sshd-auth dropbear mosh-server telnetd in.telnetd getty agetty
    tmux screen SCREEN zellij abduco dtach byobu shpool
    xterm uxterm rxvt urxvt urxvtd st alacritty kitty foot footclient wezterm wezterm-gui ghostty konsole yakuake
    gnome-terminal gnome-terminal-server kgx ptyxis ptyxis-agent xfce4-terminal lxterminal mate-terminal terminator tilix
    qterminal terminology cool-retro-term Terminal iTerm2 sakura guake warp-terminal
    gnome-shell gnome-session gnome-session-binary plasmashell kwin_wayland kwin_x11 ksmserver startplasma-wayland
    startplasma-x11 xfce4-session xfce4-panel lxsession mate-session cinnamon-session cinnamon sway i3 hyprland Hyprland
    niri river labwc weston mutter Xorg Xwayland Xvfb xinit startx gdm gdm-session-worker gdm-wayland-session
    gdm-x-session sddm sddm-helper lightdm greetd dbus-daemon dbus-broker dbus-broker-launch loginwindow Finder
    cron crond anacron atd containerd-shim containerd-shim-runc-v2 containerd dockerd podman conmon crio runc crun
    ssh-agent latchkey latchkey-agent
  `),
);

const INTERPRETER = /^(?:python|pypy|perl|ruby|node|nodejs|bun|deno|php|lua|tclsh|guile|java)[\d.]*$/;

const baseName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

/** 'sshd: user@pts/0' and '-bash', as programs call themselves, by the name before that. */
function claimedName(process: PeerProcess): string {
  const [first = ''] = process.claimedArguments;
  return baseName(first.split(/[: ]/, 1)[0] ?? '').replace(/^-/, '');
}

/** The file that runs, without its folder; where the system hides it, what the process calls itself; '' for neither. */
export function programName(process: PeerProcess): string {
  const { program } = process;
  return program === undefined ? claimedName(process) : baseName(program.replace(/ \(deleted\)$/, ''));
}

export function isShell(process: PeerProcess): boolean {
  return shells.has(programName(process));
}

const OPTIONS_WITH_VALUE: ReadonlySet<string> = new Set(words('--rcfile --init-file -O +O -o +o -C --init-command'));

/** What a shell was given to run; undefined: it waits for a person, as far as its command line tells. */
export function scriptOf(process: PeerProcess): { readonly kind: 'file' | 'text'; readonly file: string } | undefined {
  const args = process.claimedArguments;
  for (let i = 1; i < args.length; i++) {
    const arg = args[i] ?? '';
    if (OPTIONS_WITH_VALUE.has(arg) || /^[-+][a-zA-Z]*o$/.test(arg)) i++;
    else if (arg === '--command' || /^-[a-zA-Z]*c[a-zA-Z]*$/.test(arg)) return { kind: 'text', file: '' };
    else if (arg === '-s' || arg === '-') return undefined;
    else if (!/^[-+]/.test(arg)) return { kind: 'file', file: baseName(arg) };
  }
  return undefined;
}

/** The program's name as a person knows it: of a script, the script's. A claim where it is not the file itself. */
export function displayName(process: PeerProcess): string {
  const name = programName(process);
  if (isShell(process)) {
    const script = scriptOf(process);
    // A number is that of a file descriptor: /dev/fd/63.
    return script?.kind === 'file' && !/^\d*$/.test(script.file) ? script.file : name;
  }
  if (!INTERPRETER.test(name)) return name;
  const [first = '', second = ''] = process.claimedArguments;
  const own = claimedName(process);
  // Some programs put a name of their own in front of what they run as.
  if (own !== '' && own !== name && !INTERPRETER.test(own) && !first.startsWith('-')) return own;
  return second === '' || second.startsWith('-') ? name : baseName(second);
}

/** Whether commands are started from `process`, so that it is none itself. */
export function startsCommands(process: PeerProcess): boolean {
  if (process.pid <= 1) return true;
  if (isShell(process)) return scriptOf(process) === undefined;
  if (hosts.has(programName(process))) return true;
  return INTERPRETER.test(programName(process)) && hosts.has(displayName(process).replace(/(?:\.main)?\.[cm]?js$/, ''));
}
