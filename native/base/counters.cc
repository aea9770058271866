#include "base/counters.h"

namespace revocable {

Counters g_counters;

}  // namespace revocable
