// Sends the requests of a plan when they are due, however slow the answers are, and notes when tokens come.
#pragma once
#include <stdint.h>
#include "cli/load_plan.h"

struct load_answer {
        uint64_t due_ns, sent_ns, first_ns, end_ns; // CLOCK_MONOTONIC
        uint32_t tokens;
        uint32_t failed; // no answer, or not the 200 kind
        uint64_t gap_sum_ns, gap_max_ns;
};

// A parser of server-sent events: counts the data lines of a stream that carry a token.
struct load_events {
        char line[16];  // the first characters of the line at hand
        uint32_t size;  // its length so far
        int is_closing; // the line carries the usage: it ends the stream
        uint32_t match;
};

// Feeds bytes; returns the number of tokens that were completed. "[DONE]" and the closing line with "usage"
// are none.
uint32_t load_events_feed(struct load_events *events, const char *data, uint64_t size);

// Runs the plan against url (…/v1/completions). Ends when all is answered, or at Ctrl-C. Returns 0, or a
// negative errno.
int load_http_run(const char *url, const struct load_request *plan, int n, uint64_t seed,
                  struct load_answer *ret_answers, int show_progress);
