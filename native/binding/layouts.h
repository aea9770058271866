// Numbers that travel to and from JavaScript in Float64Arrays, which cost less than as many arguments or properties of an object:
// at which index each stands. src/native/enums.ts has the same names in the same order, and test/enums.test.ts compares them. The
// last enumerator is how many numbers there are.
#pragma once

#include <cstddef>

namespace revocable::binding {

namespace report_at {
enum ReportLayout : size_t { mappings, truncated, replaced, protected_, failed, duration_us, size };
}

namespace mapping_at {
enum MappingLayout : size_t {
  id,
  slot,
  address,
  start,  // from where the buffer of JavaScript begins
  object_id,
  offset,
  length,
  writable,
  private_,
  fill,
  size
};
}

namespace map_order_at {
enum MapOrderLayout : size_t { at, object_id, offset, length, writable, private_, fill, populate, device_file, for_device, size };
}

namespace copy_order_at {
enum CopyOrderLayout : size_t { id, offset, bytes, failures, size };
}

namespace call_answer_at {
enum CallAnswerLayout : size_t { result, errno_, low, high, size };
}

namespace register_access_at {
enum RegisterAccessLayout : size_t { write, offset, width, low, high, size };
}

namespace trace_head_at {
enum TraceHeadLayout : size_t { lost, ended, size };
}

namespace trace_access_at {
enum TraceAccessLayout : size_t { time, thread, region, offset, width, flags, low, high, size };
}

}  // namespace revocable::binding
