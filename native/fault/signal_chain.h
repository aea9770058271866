// Passing a signal that is not ours to the handler that was installed before ours, exactly as if ours were not there.
//
// The actions found in place are kept in a small append-only table: entry 0 is what was there when the library installed its
// handler, later ones are newcomers that displaced it and were chained. chain_signal() runs inside signal handlers.
#pragma once

#include <signal.h>

namespace revocable {

// Remembers `action` as the one to be called from now on. Normal code, one caller at a time (handler_install.cc). False when
// the table is full: the action is then not chained.
bool chain_adopt(int signal, const struct sigaction& action);

// Async-signal-safe. Returns when the previous handler has returned, or after restoring the default action so that the
// instruction faults again and the process dies of the true cause.
//
// `fresh`: the kernel delivered the signal to us. Otherwise a newcomer, which saved our handler as its previous one, has called
// us back: then the next in line is the original action, not the newcomer again.
void chain_signal(int signal, siginfo_t* info, void* context, bool fresh);

}  // namespace revocable
