// Module initialisation: registers what binding/ exports, nothing else. No thread is started, no signal handler installed
// and no descriptor opened until JavaScript calls start() or maps something.
#include <napi.h>

#include "binding/exports.h"

static Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  using namespace revocable::binding;
  export_objects(env, exports);
  export_mappings(env, exports);
  export_access(env, exports);
  export_memory_calls(env, exports);
  export_revocation(env, exports);
  export_waits(env, exports);
  export_observation(env, exports);
  export_devices(env, exports);
  export_traces(env, exports);
  export_sockets(env, exports);
  export_bench(env, exports);
  return exports;
}

NODE_API_MODULE(revocable_mmap, initialise)
