// Errors are values here: which system call failed, and how. `errnum` 0 means success.
#pragma once

#include <cerrno>

namespace revocable {

struct Failure {
  int errnum = 0;
  const char* syscall = "";

  explicit operator bool() const { return errnum != 0; }
  static Failure from_errno(const char* syscall) { return {errno, syscall}; }
};

}  // namespace revocable
