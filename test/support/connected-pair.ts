import { duplexPair, type Duplex } from 'node:stream';

/** Two ends of a connection that behave like a socket's: when one is closed, the other one ends, and is closed. */
export function connectedPair(): [Duplex, Duplex] {
  const [a, b] = duplexPair();
  const link = (from: Duplex, to: Duplex): void => {
    // In Node 24.21 an end that is destroyed with an error destroys the other one.
    from._destroy = (error, callback) => {
      callback(error);
    };
    from.once('close', () => {
      if (to.destroyed) return;
      to.once('end', () => to.destroy());
      if (to.readableEnded) to.destroy();
      else to.push(null);
    });
  };
  link(a, b);
  link(b, a);
  return [a, b];
}
