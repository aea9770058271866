// Simulated devices, as the core sees them.
#pragma once

#include "core/vm_ops.h"

namespace revocable {

extern const VmOps kDeviceVmOps;

}  // namespace revocable
