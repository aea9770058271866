{
  "variables": {
    # `REVOCABLE_SANITIZE=address,undefined node-gyp rebuild` for the sanitizer lane of .ci/run.
    "sanitize%": "<!(echo ${REVOCABLE_SANITIZE:-})"
  },
  "targets": [
    {
      "target_name": "revocable_mmap",
      # Written there first: files of one folder are compiled together.
      "sources": ["<!@(node scripts/units.mjs build/units)"],
      "include_dirs": [".", "native", "include", "<!(node -p \"require('node-addon-api').include_dir\")"],
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
