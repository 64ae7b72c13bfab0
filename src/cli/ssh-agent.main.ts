// Before anything else: without a listener, Node opens its debugger on SIGUSR1, and with it every key.
process.on('SIGUSR1', () => {});

import('./ssh-agent.ts').then(({ main }) => main(process.argv.slice(2), process.env));
