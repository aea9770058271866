{
  "variables": {
    # `REVOCABLE_SANITIZE=address,undefined node-gyp rebuild` for the sanitizer lane of .ci/run.
    "sanitize%": "<!(echo ${REVOCABLE_SANITIZE:-})"
  },
  "targets": [
    {
      "target_name": "revocable_mmap",
      "sources": [
        "native/addon.cc",
        "native/base/counters.cc",
        "native/base/features.cc",
        "native/base/map_file_inside.cc",
        "native/base/memfd.cc",
        "native/base/page.cc",
        "native/base/thread.cc",
        "native/bench/thread_counters.cc",
        "native/bench/touch.cc",
        "native/binding/access.cc",
        "native/binding/bench.cc",
        "native/binding/convert.cc",
        "native/binding/devices.cc",
        "native/binding/env_state.cc",
        "native/binding/loop_wake.cc",
        "native/binding/loop_watches.cc",
        "native/binding/mailbox.cc",
        "native/binding/mappings.cc",
        "native/binding/memory_calls.cc",
        "native/binding/objects.cc",
        "native/binding/observation.cc",
        "native/binding/revocation.cc",
        "native/binding/traces.cc",
        "native/binding/waits.cc",
        "native/core/copy_thread.cc",
        "native/core/event_ring.cc",
        "native/core/event_ring_inside.cc",
        "native/core/handler_work_inside.cc",
        "native/core/mapping.cc",
        "native/core/mapping_pages.cc",
        "native/core/mapping_table.cc",
        "native/core/mapping_table_inside.cc",
        "native/core/registry.cc",
        "native/core/registry_inside.cc",
        "native/core/reserve.cc",
        "native/core/reserve_inside.cc",
        "native/core/revoker.cc",
        "native/core/service.cc",
        "native/core/service_inside.cc",
        "native/core/status_table.cc",
        "native/core/vma_reader.cc",
        "native/core/wait_list.cc",
        "native/device/access_trace.cc",
        "native/device/access_trace_inside.cc",
        "native/device/device.cc",
        "native/device/device_vm_ops.cc",
        "native/device/page_supply.cc",
        "native/device/pager.cc",
        "native/device/register_access_inside.cc",
        "native/device/register_file.cc",
        "native/device/register_file_inside.cc",
        "native/device/register_port.cc",
        "native/device/register_port_inside.cc",
        "native/device/register_step.cc",
        "native/device/register_step_inside.cc",
        "native/device/register_trap.cc",
        "native/device/register_trap_inside.cc",
        "native/device/userfault.cc",
        "native/fault/backing_inside.cc",
        "native/fault/fault_inside.cc",
        "native/fault/fill_inside.cc",
        "native/fault/guarded_copy_inside.cc",
        "native/fault/handler_inside.cc",
        "native/fault/handler_install.cc",
        "native/fault/handler_outside.cc",
        "native/fault/probe_inside.cc",
        "native/fault/protection_inside.cc",
        "native/fault/signal_chain_inside.cc",
        "native/instruction/decode_inside.cc",
        "native/instruction/emulate_inside.cc",
        "native/instruction/vector_inside.cc",
        "native/instruction/vector_registers_inside.cc"
      ],
      "include_dirs": ["native", "include", "<!(node -p \"require('node-addon-api').include_dir\")"],
      # NAPI_VERSION 9 is what Node 20 has: one binary then serves Node 20, 22, 24 and 26.
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED",
                  # A worker may be terminated while native code runs: an exception that cannot be thrown any more is not fatal.
                  "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags": ["-Wall", "-Wextra", "-fvisibility=hidden", "-O2", "-g"],
      "cflags_cc": ["-std=c++20", "-fno-exceptions", "-fno-rtti", "-fvisibility-inlines-hidden"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
      "ldflags": [
        # A worker that was the only one to load the addon would unload it when it ends, with the fault handler still installed.
        "-Wl,-z,nodelete",
        # Every symbol is bound at load: the dynamic linker's lazy binding must not run inside a signal handler.
        "-Wl,-z,now",
        "-Wl,-z,relro"
      ],
      "conditions": [
        ["sanitize!=''", { "cflags": ["-fsanitize=<(sanitize)", "-fno-omit-frame-pointer"], "ldflags": ["-fsanitize=<(sanitize)"] }]
      ]
    }
  ]
}
