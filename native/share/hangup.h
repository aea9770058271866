// Revokes objects at the moment when the peer of a socket sends no more: it has removed them, or it has died. By a thread of the
// library, so that it does not wait for an event loop whose thread is busy.
#pragma once

#include <cstdint>
#include <vector>

#include "base/failure.h"
#include "core/object_record.h"

namespace revocable {

// Watches a copy of the descriptor. When the peer has ended its side, the objects are revoked, and then this side is ended too,
// which is how the peer learns that they are. Takes a reference to each, which is given back at once when it fails. `token` is
// for hangup_forget, which closes the copy: as long as it is open the peer sees no end.
Failure hangup_watch(int socket, const std::vector<Object*>& objects, uint64_t* token);
// For a thread that has seen the end itself: returns when the objects are revoked, by whichever thread.
void hangup_now(uint64_t token);
void hangup_forget(uint64_t token);

}  // namespace revocable
