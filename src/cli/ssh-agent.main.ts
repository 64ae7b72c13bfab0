// Before anything else: without a listener, Node opens its debugger on SIGUSR1, and with it every key.
process.on('SIGUSR1', () => {});

const { main } = await import('./ssh-agent.ts');
await main(process.argv.slice(2), process.env);
