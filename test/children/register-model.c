// An addon with a model of registers, as a user would write it; and a thread of native code that accesses registers.
// The declarations are those of node_api.h that it needs, so that nothing but a compiler is.
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "revocable-mmap/register-model.h"

typedef void* napi_env;
typedef void* napi_value;
typedef void* napi_callback_info;
typedef struct {
  uint64_t lower, upper;
} napi_type_tag;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
typedef void (*napi_finalize)(napi_env, void*, void*);
extern int napi_create_external(napi_env, void*, napi_finalize, void*, napi_value*);
extern int napi_type_tag_object(napi_env, napi_value, const napi_type_tag*);
extern int napi_create_function(napi_env, const char*, size_t, napi_callback, void*, napi_value*);
extern int napi_set_named_property(napi_env, napi_value, const char*, napi_value);
extern int napi_get_cb_info(napi_env, napi_callback_info, size_t*, napi_value*, napi_value*, void**);
extern int napi_get_value_bigint_uint64(napi_env, napi_value, uint64_t*, bool*);
extern int napi_get_value_uint32(napi_env, napi_value, uint32_t*);
extern int napi_create_uint32(napi_env, uint32_t, napi_value*);

// A thermometer: 0 counts the reads of itself, 8 holds what was written last, shifted by one bit.
static _Atomic uint64_t reads, written;

static uint64_t model_read(void* context, uint64_t offset, uint32_t width) {
  (void)width;
  if (offset == 0) return atomic_fetch_add((_Atomic uint64_t*)context, 1);
  return offset == 8 ? atomic_load(&written) << 1 : ~(uint64_t)0;
}

static void model_write(void* context, uint64_t offset, uint32_t width, uint64_t value) {
  (void)context, (void)width;
  if (offset == 8) atomic_store(&written, value);
}

static revocable_mmap_register_model model = {model_read, model_write, &reads};

static napi_value make(napi_env env, napi_callback_info info) {
  (void)info;
  static const napi_type_tag tag = REVOCABLE_MMAP_REGISTER_MODEL_TAG;
  napi_value external;
  napi_create_external(env, &model, NULL, NULL, &external);
  napi_type_tag_object(env, external, &tag);
  return external;
}

static napi_value make_untagged(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value external;
  napi_create_external(env, &model, NULL, NULL, &external);
  return external;
}

// A model that ends with its External, which counts how often it is called after that, or is still running then. Its end takes as
// long as others need for some more accesses, each of which would be such a call.
struct mortal {
  revocable_mmap_register_model model;
  atomic_bool ended;
};
static _Atomic uint32_t ticks;  // of those who access
static _Atomic uint32_t ends;   // during which others have made accesses
static _Atomic uint32_t late_calls;

static uint64_t mortal_read(void* context, uint64_t offset, uint32_t width) {
  (void)offset, (void)width;
  struct mortal* own = context;
  bool late = atomic_load(&own->ended);
  for (volatile int i = 0; i < 5000; ++i) {
  }
  if (late || atomic_load(&own->ended)) atomic_fetch_add(&late_calls, 1);
  return 1;
}

static void mortal_write(void* context, uint64_t offset, uint32_t width, uint64_t value) {
  (void)value;
  mortal_read(context, offset, width);
}

static void finalize(napi_env env, void* data, void* hint) {
  (void)env, (void)hint;
  atomic_store(&((struct mortal*)data)->ended, true);
  const uint32_t before = atomic_load(&ticks);
  const struct timespec moment = {0, 100000};
  for (int i = 0; i < 300000 && atomic_load(&ticks) - before < 3; ++i) nanosleep(&moment, NULL);
  if (atomic_load(&ticks) - before >= 3) atomic_fetch_add(&ends, 1);
  // Not freed: what comes too late is to be counted.
}

static napi_value make_mortal(napi_env env, napi_callback_info info) {
  (void)info;
  static const napi_type_tag tag = REVOCABLE_MMAP_REGISTER_MODEL_TAG;
  struct mortal* own = calloc(1, sizeof *own);
  own->model = (revocable_mmap_register_model){mortal_read, mortal_write, own};
  napi_value external;
  napi_create_external(env, &own->model, finalize, NULL, &external);
  napi_type_tag_object(env, external, &tag);
  return external;
}

// tick(): there have been more accesses
static napi_value tick(napi_env env, napi_callback_info info) {
  (void)env, (void)info;
  atomic_fetch_add(&ticks, 1);
  return NULL;
}

static napi_value count_of(napi_env env, const _Atomic uint32_t* count) {
  napi_value value;
  napi_create_uint32(env, atomic_load(count), &value);
  return value;
}

static napi_value ends_js(napi_env env, napi_callback_info info) {
  (void)info;
  return count_of(env, &ends);
}

static napi_value late_calls_js(napi_env env, napi_callback_info info) {
  (void)info;
  return count_of(env, &late_calls);
}

struct hammering {
  _Atomic uint32_t* at;
  uint32_t times, sum;
};

static void* hammer(void* argument) {
  struct hammering* work = argument;
  for (uint32_t i = 0; i < work->times; ++i) work->sum += atomic_fetch_add(work->at, 1);
  return NULL;
}

// hammer(address, times): the sum of what a thread's additions of one found there.
static napi_value hammer_js(napi_env env, napi_callback_info info) {
  napi_value arguments[2], sum;
  size_t count = 2;
  uint64_t address = 0;
  bool lossless;
  struct hammering work = {0};
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  napi_get_value_bigint_uint64(env, arguments[0], &address, &lossless);
  napi_get_value_uint32(env, arguments[1], &work.times);
  work.at = (_Atomic uint32_t*)(uintptr_t)address;
  pthread_t thread;
  if (pthread_create(&thread, NULL, hammer, &work) == 0) pthread_join(thread, NULL);
  napi_create_uint32(env, work.sum, &sum);
  return sum;
}

static void add(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, SIZE_MAX, callback, NULL, &function);
  napi_set_named_property(env, exports, name, function);
}

__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  add(env, exports, "make", make);
  add(env, exports, "makeUntagged", make_untagged);
  add(env, exports, "makeMortal", make_mortal);
  add(env, exports, "tick", tick);
  add(env, exports, "ends", ends_js);
  add(env, exports, "lateCalls", late_calls_js);
  add(env, exports, "hammer", hammer_js);
  return exports;
}
