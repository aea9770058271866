// "Nothing more comes": see barrier.d.cts.

function barrierOf(root) {
  const { completionOf, prepare } = require(`${root}/dist/loop.js`);
  const { native } = require(`${root}/dist/native.js`);
  const { later } = require(`${root}/dist/turns.js`);
  return async () => {
    prepare();
    await completionOf(native.barrier());
    await new Promise(later);
  };
}

module.exports = { barrierOf, barrier: () => barrierOf(`${__dirname}/../..`)() }; // loads the package when it is called
