/**
 * ssh-add as OpenSSH 10.5 has it: the same flags, texts and exit codes (0 done, 1 failed, 2 no agent, 255 fatal). What is
 * better on purpose is said where it is done. This file and what it imports is what every call loads: enough for `-l`.
 */
import { standardOutput } from './output.ts';
import { concluded, withAgent } from './ssh-add-connect.ts';
import { list } from './ssh-add-list.ts';
import { parseOptions } from './ssh-add-options.ts';
import { connectOnce } from './ssh-add-pipe.ts';

/** Runs ssh-add with `argv` (without the program's name) and says on the standard streams what comes of it. */
export function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const out = standardOutput();
  return concluded(out, async () => {
    const options = parseOptions(argv, env, out);
    if (typeof options === 'number') return options;
    const { action } = options;
    // In the build the other file has classes of its own: nothing but words may pass, so it reads them again.
    if (action !== 'list' && action !== 'listKeys') return (await import('./ssh-add-actions.ts')).runAction(argv, env);
    const path = env.SSH_AUTH_SOCK;
    const once = path === undefined ? undefined : await connectOnce(path);
    return withAgent(
      path,
      out,
      async (agent) => ((await list({ agent, options, out }, action === 'list')) ? 0 : 1),
      once,
    );
  });
}
