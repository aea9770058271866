// operator new and delete of the binaries: libc++'s own have a section whose bounds the linker exports. Without exceptions, there is
// nothing to do where there is no memory but to end.
#include <cstdlib>
#include <new>

namespace {

void* allocate(size_t size) { return std::malloc(size == 0 ? 1 : size); }

void* allocate_or_abort(size_t size) {
  void* memory = allocate(size);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return allocate_or_abort(size); }
void* operator new[](size_t size) { return allocate_or_abort(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
