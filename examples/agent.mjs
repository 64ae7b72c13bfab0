// Makes an agent, serves it on a socket, and puts a key file into it: node agent.mjs SOCKET KEY-FILE
import { readFileSync } from 'node:fs';
import { connectAgent, createAgent, createAgentServer, listenOn, readPrivateKeyFile } from 'latchkey';

const [socket, keyFile] = process.argv.slice(2);
const carrier = createAgentServer(createAgent());
await listenOn(carrier.server, socket);
const client = await connectAgent(socket);
const { key, comment } = await readPrivateKeyFile(readFileSync(keyFile));
await client.add(key, comment, { lifetime: 3600 });
client.close();
console.log(`export SSH_AUTH_SOCK=${socket}`);
