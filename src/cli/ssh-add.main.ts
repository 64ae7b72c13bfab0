/** The program ssh-add. */
import { main } from './ssh-add.ts';

process.exitCode = await main(process.argv.slice(2), process.env);
