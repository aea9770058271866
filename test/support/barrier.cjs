// "Nothing more comes": see barrier.d.cts.

function barrierOf(root) {
  const { completionOf, prepare } = require(`${root}/dist/thread/wakeups.js`);
  const { native } = require(`${root}/dist/native/load.js`);
  const { later } = require(`${root}/dist/thread/emit-later.js`);
  return async () => {
    prepare();
    await completionOf(native.barrier());
    await new Promise(later);
  };
}

module.exports = { barrierOf, barrier: () => barrierOf(`${__dirname}/../..`)() }; // loads the package when it is called
