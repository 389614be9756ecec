// A request line as wire/request.h reads it, written.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "wire/request.h"

// With its newline.
#define CLIENT_LINE_MAX (TAKT_REQUEST_LINE_MAX + 1)

// Writes one line, newline included. deadline_ns: 0: none. The id is escaped as JSON.stringify does it, byte
// for byte: the daemon compares ids as they are written, and not all servers of a tenant need be written in
// C. Returns the line's size; -EINVAL (no id, an empty one, a deadline past 10^9 ms) or -EMSGSIZE.
int client_line_write(char line[CLIENT_LINE_MAX], const char *event, const char *id, uint64_t deadline_ns);
