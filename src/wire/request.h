// One line of JSON about a request, as servers write it to the socket named in TAKT_REQUESTS.
//
//   {"event":"arrived","id":"42"}  {"event":"arrived","id":"42","deadline_ms":150}
//   {"event":"first_token","id":"42"}  {"event":"finished","id":"42"}
#pragma once
#include <stddef.h>
#include <stdint.h>

#define TAKT_REQUEST_LINE_MAX 512

enum takt_request_event { TAKT_REQUEST_ARRIVED = 1, TAKT_REQUEST_FIRST_TOKEN = 2, TAKT_REQUEST_FINISHED = 3 };

struct takt_request_line {
        enum takt_request_event event;
        uint64_t id;          // FNV-1a hash of the id's text: equal texts, equal ids
        uint64_t deadline_ns; // from now to the first token; 0: the tenant's own objective
};

// Reads one line (without its newline). Unknown members with a string or number value are passed over, so
// that a later version may add some. Returns 0, or -EBADMSG (not such an object, a member twice, a deadline
// that is no number from 0 to 10^9 ms, or a line longer than TAKT_REQUEST_LINE_MAX).
int takt_request_parse(const char *line, size_t size, struct takt_request_line *ret_line);
