/**
 * A unix socket that passes every byte on to a real agent and keeps the frames that went by, in order.
 * Knows of the protocol only that a frame is a u32 length and that many bytes.
 */
import net from 'node:net';

/** Takes the whole frames off the front of `state.rest`. */
function cut(state, chunk, seen) {
  state.rest = Buffer.concat([state.rest, chunk]);
  while (state.rest.length >= 4 && state.rest.length >= 4 + state.rest.readUInt32BE(0)) {
    const end = 4 + state.rest.readUInt32BE(0);
    seen(new Uint8Array(state.rest.subarray(0, end)));
    state.rest = state.rest.subarray(end);
  }
}

/**
 * @param {string} path where to listen
 * @param {string} agent the real agent's socket
 */
export async function startProxy(path, agent) {
  const frames = [];
  let connections = 0;
  const sockets = new Set();
  const server = net.createServer((client) => {
    const connection = ++connections;
    const upstream = net.connect(agent);
    for (const [from, to, direction] of [
      [client, upstream, 'request'],
      [upstream, client, 'response'],
    ]) {
      const state = { rest: Buffer.alloc(0) };
      sockets.add(from);
      from.on('data', (chunk) => {
        cut(state, chunk, (frame) => frames.push({ connection, direction, frame }));
        to.write(chunk);
      });
      from.on('end', () => to.end());
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  return {
    frames,
    /** The frames seen since the last call. */
    take: () => frames.splice(0),
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}
