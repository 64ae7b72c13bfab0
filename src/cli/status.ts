/** `latchkey status`: what the agent holds, how it keeps it, who is connected, and what it refused. */
import { tokenText } from '../backends/tokenstatus.ts';
import { type Command, DONE_EXIT, parseCommon, withAgent } from './command.ts';
import { askControl, type Status } from './control.ts';
import { jsonText, type Output, shown } from './output.ts';

const USAGE = `usage: latchkey status [--json] [--socket socket]

What the agent of this shell holds, how it keeps it, who is connected, whom it can ask, and what it refused.

Examples:
  latchkey status
  latchkey status --json | jq .custody`;

/** Sizes as people say them. */
function kib(bytes: number): string {
  return `${Math.ceil(bytes / 1024)} KiB`;
}

const PAGES: Readonly<Record<string, string>> = {
  memfd_secret: 'secret memory (memfd_secret): no other process can read it, not even root',
  locked: 'locked memory: not swapped and not in core files, but root can read it',
  plain: 'ORDINARY MEMORY, which may be swapped out: no memory could be locked (ulimit -l)',
};

function describe(status: Status): readonly string[] {
  const { custody } = status;
  const lines = [
    `agent      ${status.program} ${status.version}, pid ${status.pid}, up ${status.uptimeSeconds} s`,
    `socket     ${status.socket === null ? 'handed over by the system' : shown(status.socket)}`,
    `keys       ${status.keys}${status.locked ? ', locked: encrypted under the pass phrase' : ''}`,
    `custody    ${PAGES[custody.pages] ?? custody.pages}; ${kib(custody.usedBytes)} in use`,
    `signing    ${status.signing} (OpenSSL ${status.openssl}, Node.js ${status.node})`,
    `process    ${status.process.undumpable ? 'no debugger' : 'DEBUGGERS ALLOWED'}, ${status.process.noCoreFiles ? 'no core files' : 'CORE FILES ALLOWED'}`,
  ];
  const { records, configuration, asking } = status;
  lines.push(
    `afar       ${status.table === 'latchkey' ? 'what comes from other machines is asked for, or refused' : 'as OpenSSH: what comes from other machines is served (-O guarded to change that)'}`,
    `rules      ${status.rules} in force${configuration.missing ? ', no configuration file' : `, from ${shown(configuration.file)}`}`,
    ...(configuration.errors ?? []).map((text) => `           NOT READ: ${shown(text)}`),
    `records    ${records.records} written to ${shown(records.file ?? records.folder)}`,
    ...(records.unwritable === null ? [] : [`           NOT WRITTEN: ${shown(records.unwritable)}`]),
  );
  const ways = asking.map(({ way, trouble }) => (trouble === undefined ? way : `${way} (${shown(trouble)})`));
  if (status.watchers > 0)
    ways.push(`latchkey watch on ${status.watchers} terminal${status.watchers === 1 ? '' : 's'}`);
  lines.push(
    `asks by    ${ways.length > 0 ? ways.join(', ') : 'nothing: what has to be asked is refused (latchkey watch)'}`,
  );
  if (status.lastUnanswered !== null) lines.push(`           reached nobody at ${status.lastUnanswered}`);
  if (status.guards > 0) lines.push(`guards     ${status.guards} open (latchkey guard --list)`);
  for (const { provider, tokens } of status.tokens)
    for (const token of tokens) lines.push(`token      ${shown(tokenText(token))} (${shown(provider)})`);
  for (const { pid, processes } of status.connections) {
    const words = processes.map(({ program, claimedArguments }) => program ?? claimedArguments[0] ?? '?');
    lines.push(`connected  pid ${pid ?? 'unknown'}${words.length > 0 ? `: ${shown(words.join(' < '))}` : ''}`);
  }
  const refused = status.recent.filter(({ level, text }) => level === 'error' || text.startsWith('refused'));
  for (const { time, text } of refused.slice(-5)) lines.push(`${time}  ${shown(text)}`);
  return lines;
}

async function run(argv: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const { json, socket } = parseCommon(argv);
  return withAgent(env, socket, output, async (path) => {
    const found = (await askControl(path, 'status')) as Status;
    if (json) output.line(jsonText(found, 2));
    else output.lines(describe(found));
    return DONE_EXIT;
  });
}

export const statusCommand: Command = {
  name: 'status',
  summary: 'what the agent holds, how it keeps it, and what it refused',
  usage: USAGE,
  run,
};
