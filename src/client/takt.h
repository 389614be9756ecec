// libtakt: an agent's server tells its daemon of requests, so that the GPU's scheduler knows what is urgent.
//
//   takt_request_arrived("42", 0);      // before the engine sees it
//   takt_request_first_token("42");     // its first token goes out
//   takt_request_finished("42");        // done, refused or cancelled
//
// The calls write a line each to the socket named in TAKT_REQUESTS, which `takt run` sets; without it they do
// nothing. They never wait: what the daemon cannot take at once is dropped, and a daemon that has gone is
// looked for at most once a second. A request that was not told of is scheduled by the tenant's objectives
// alone.
//
// Any thread may call at any time, but not a signal handler. After fork(2) the child tells over a connection
// of its own. Nothing is printed, no signal is raised, errno stays as it was, and no memory is allocated.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TAKT_PUBLIC __attribute__((visibility("default")))

// The line was not sent: there is no TAKT_REQUESTS, no daemon, or no room in the socket. Nothing needs to be
// done.
#define TAKT_UNTOLD 1

// The latest deadline that a request may bring: 10^9 ms, in ns.
#define TAKT_DEADLINE_MAX UINT64_C(1000000000000000)

// All three take the request's id, as text: 1 byte or more up to its end, the same in all three calls, and
// unlike that of every other request under way in this tenant. Any bytes will do; it is read during the call
// only. Ids of up to 70 bytes always fit, plain ones of up to 400.
//
// Return 0 (sent to the daemon), TAKT_UNTOLD, -EINVAL (id is NULL or empty, or the deadline too far away), or
// -EMSGSIZE (the id does not fit into a line).

// The request is there. deadline_ns: when its first token is due, in ns from now, up to TAKT_DEADLINE_MAX; 0:
// as the tenant's objectives say.
TAKT_PUBLIC int takt_request_arrived(const char *id, uint64_t deadline_ns);
// Its first token is out; from now on its tokens are due by the tenant's time between tokens.
TAKT_PUBLIC int takt_request_first_token(const char *id);
// It is over, served or not. Do not leave it out: the daemon waits for the tokens of a request that has not
// finished.
TAKT_PUBLIC int takt_request_finished(const char *id);

#ifdef __cplusplus
}
#endif
