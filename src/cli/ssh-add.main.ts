/** The program ssh-add. */
import { main } from './ssh-add.ts';

main(process.argv.slice(2), process.env).then((code) => {
  process.exitCode = code;
});
