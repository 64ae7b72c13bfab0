// As in ssh-agent.main.ts: without a listener, Node opens its debugger on SIGUSR1.
process.on('SIGUSR1', () => {});

import('./latchkey.ts').then(({ main }) => main(process.argv.slice(2), process.env));
