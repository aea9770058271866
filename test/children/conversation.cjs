// The child's end of test/support/conversation.ts.
const { createInterface } = require('node:readline');

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Prints a line of JSON. */
exports.say = (value) => console.log(JSON.stringify(value, (key, item) => (typeof item === 'bigint' ? String(item) : item)));

/** The parent's next line; undefined when it has said all. */
exports.hear = async () => (await lines.next()).value;

/** What `call` throws, by its code; or what it returns. */
exports.outcome = (call) => {
  try {
    return call();
  } catch (error) {
    return error.code ?? String(error);
  }
};
