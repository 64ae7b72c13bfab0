/** `latchkey reload`: the running agent reads its configuration again. */
import { type Command, DONE_EXIT, parseCommon, withAgent } from './command.ts';
import { askControl } from './control.ts';
import { jsonText, shown } from './output.ts';

export const reloadCommand: Command = {
  name: 'reload',
  summary: 'has the agent read config.toml again',
  usage: `usage: latchkey reload [--json] [--socket socket]

The agent reads its configuration again. It does so by itself when the file changes; latchkey agent
also on SIGHUP. A file with errors leaves the old rules in force, and the errors are shown.

Examples:
  latchkey check && latchkey reload`,
  async run(argv, env, output) {
    const { json, socket } = parseCommon(argv);
    return withAgent(env, socket, output, async (path) => {
      const result = (await askControl(path, 'reload')) as { rules: number; file: string };
      if (json) output.line(jsonText(result));
      else output.line(`${result.rules} rules in force, from ${shown(result.file)}`);
      return DONE_EXIT;
    });
  },
};
