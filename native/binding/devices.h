// What the end of an environment does to its devices.
#pragma once

#include "device/device.h"

namespace revocable::binding {

// The thread that answers for it goes: to all others it has been unplugged.
void abandon_device(const DeviceRef& device);

}  // namespace revocable::binding
