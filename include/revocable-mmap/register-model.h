/*
 * Registers of a simulated device whose model is native code: what an addon hands to
 *
 *   new Device({ regions: [{ size, kind: 'registers', model: addon.makeModel() }], … })
 *
 * The model is called wherever an access is made, in any thread and inside a signal handler that interrupted any instruction of
 * any program. So it takes no lock that normal code holds, allocates nothing, logs nothing, uses no thread-local storage, calls
 * nothing that does one of these, and touches no register of a simulated device. Lock-free atomics and write(2) are fine. Calls
 * for one region come one at a time, in the order of the accesses.
 *
 * Plain C. It must not go away before the device is removed: the External keeps it, and the device keeps the External.
 */
#ifndef REVOCABLE_MMAP_REGISTER_MODEL_H
#define REVOCABLE_MMAP_REGISTER_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct revocable_mmap_register_model {
  /* `width` is 1, 2, 4 or 8 bytes and `offset`, from the start of the region, a multiple of it. Bits above `width` are ignored.
   */
  uint64_t (*read)(void* context, uint64_t offset, uint32_t width);
  void (*write)(void* context, uint64_t offset, uint32_t width, uint64_t value);
  void* context;
} revocable_mmap_register_model;

/*
 * The tag of the External that holds a pointer to the struct, so that another External is an error and not a crash:
 *
 *   static const napi_type_tag tag = REVOCABLE_MMAP_REGISTER_MODEL_TAG;
 *   napi_create_external(env, &model, NULL, NULL, &value);
 *   napi_type_tag_object(env, value, &tag);
 */
#define REVOCABLE_MMAP_REGISTER_MODEL_TAG \
  { 0x7265766f6361626cULL, 0x6d6d61702d726567ULL }

#ifdef __cplusplus
}
#endif

#endif
