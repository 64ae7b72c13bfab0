// As in ssh-agent.main.ts: without a listener, Node opens its debugger on SIGUSR1.
process.on('SIGUSR1', () => {});

const { main } = await import('./latchkey.ts');
await main(process.argv.slice(2), process.env);
