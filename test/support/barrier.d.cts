/**
 * Resolves once everything has come to this thread that the library's threads had to do or to send when it was called, and every event
 * that follows from it has been emitted. What has not come then does not come: a test of "nothing more" counts after it.
 *
 * It goes through the pager's thread and the service thread and comes back through the mailbox, behind completions, events and the
 * work of this thread's devices. Not behind other JavaScript threads: wait for an answer of theirs first.
 */
export function barrier(): Promise<void>;

/** The same of another copy of the package, which is in the folder `root`. */
export function barrierOf(root: string): () => Promise<void>;
