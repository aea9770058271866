// Putting the fault handler in place, and noticing when other code takes it away.
#pragma once

#include <cstdint>

#include "base/failure.h"

namespace revocable {

// Installs the handler for SIGBUS and SIGSEGV if it is not installed, adopts what it finds there, and reads back whether it
// really is in place. Cheap (two sigaction calls) when nothing has changed; called at every map and revoke.
Failure handlers_ensure();

// The same, if the handler was ever installed, and that for SIGTRAP when a thread waits for it (StepHandler); for the
// watchdog and the hooks on the process's signal listeners. Displacements are counted in stats and pushed as an event.
void handlers_check();

}  // namespace revocable
