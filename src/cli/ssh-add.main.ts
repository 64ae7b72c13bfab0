/** The program ssh-add. All output is written by then, so nothing is lost by not waiting for the loop to run dry. */
import { main } from './ssh-add.ts';

main(process.argv.slice(2), process.env).then((code) => process.exit(code));
