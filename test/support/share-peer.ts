/** Processes that share, and use what is shared: `test/children/share/peer.cjs`. */
import { converse, type ConversationOptions, type Ending } from './conversation.js';

export interface Said {
  code: string;
  message: string;
  cause?: Said;
}

export interface SharePeer {
  pid: number;
  /** What came of an action; rejects with what it threw, as {@link PeerError}. */
  do<T>(action: string, input?: object): Promise<T>;
  /** Begins an action whose child says a line before its answer; resolves with that line. */
  begin(action: string, input?: object): Promise<unknown>;
  /** The answer to what was begun. */
  outcome<T>(limit?: number): Promise<T>;
  kill(): Promise<Ending>;
  end(): Promise<Ending>;
}

export class PeerError extends Error {
  constructor(readonly said: Said) {
    super(`${said.code}: ${said.message}`);
  }
}

const living = new Set<SharePeer>();

export function sharePeer(nodeArgs: string[] = [], options: Pick<ConversationOptions, 'uid' | 'node'> = {}): SharePeer {
  const child = converse('share/peer.cjs', { nodeArgs, ...options });
  const outcome = async <T>(limit?: number): Promise<T> => {
    const answer = await child.hear<{ value: T } | { error: Said }>(limit);
    if ('error' in answer) throw new PeerError(answer.error);
    return answer.value;
  };
  const ask = (action: string, input: object = {}): void => child.say(JSON.stringify({ action, ...input }));
  const peer: SharePeer = {
    pid: child.pid,
    do: (action, input) => (ask(action, input), outcome()),
    begin: (action, input) => (ask(action, input), child.hear()),
    outcome,
    kill: () => {
      living.delete(peer);
      process.kill(child.pid, 'SIGKILL');
      return child.end();
    },
    end: () => {
      living.delete(peer);
      return child.end();
    },
  };
  living.add(peer);
  return peer;
}

/** What `call` was refused with. */
export async function refusal(call: Promise<unknown>): Promise<Said> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof PeerError) return error.said;
  throw new Error('it was not refused by the peer', { cause: error });
}

afterEach(async () => {
  for (const peer of [...living]) await peer.kill();
});
