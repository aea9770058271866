#include "base/page.h"

#include <unistd.h>

namespace revocable {

const size_t kPageSize = static_cast<size_t>(sysconf(_SC_PAGESIZE));
const unsigned kPageShift = static_cast<unsigned>(__builtin_ctzl(static_cast<unsigned long>(sysconf(_SC_PAGESIZE))));

}  // namespace revocable
