// A daemon of the bench's own, and agents that take part with the shim's own lease code but without a GPU.
#pragma once
#include <sys/types.h>
#include "shim/lease.h"

// Starts taktd (TAKT_TAKTD names it) with one made-up device in a fresh folder. Returns its pid, or -1.
pid_t agent_daemon(void);
void agent_end(pid_t daemon);
// Makes this process an agent of the fair class, once: registered for as long as it lives, and joined.
// Returns 0, or less.
int agent_join(const char *name);
