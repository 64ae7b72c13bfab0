// Lists the keys of the agent that SSH_AUTH_SOCK names, OpenSSH's too, and has each of them sign.
import { connectAgent, fingerprint, parsePublicKey, SIGN_RSA_SHA2_512, verifySignature } from 'latchkey';

const agent = await connectAgent();
const challenge = crypto.getRandomValues(new Uint8Array(32));
for (const { blob, comment } of await agent.list()) {
  const key = parsePublicKey(blob);
  const signature = await agent.sign(blob, challenge, SIGN_RSA_SHA2_512);
  console.log(fingerprint(key), comment, verifySignature(key, challenge, signature) ? 'signs' : 'signs wrongly');
}
agent.close();
