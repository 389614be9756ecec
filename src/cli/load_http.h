// Sends the requests of a plan when they are due, however slow the answers are, and notes when tokens come.
#pragma once
#include <stdint.h>
#include "cli/figure.h"
#include "cli/load_plan.h"

struct load_answer {
        uint64_t due_ns, sent_ns, first_ns, end_ns; // CLOCK_MONOTONIC; end_ns 0: it was not waited for
        uint32_t tokens;
        uint32_t failed; // no answer, or not the 200 kind
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

struct load_run {
        const char *url, *model; // url: …/v1/completions; model: NULL: the server has but one
        const struct load_request *plan;
        int n;
        uint64_t seed, timeout_ns;
        int show_progress;
        // What came of it.
        struct load_answer *answers; // n of them, the caller's
        struct figure gaps;          // between two tokens of an answer; the caller's to deinit
        int n_sent, stopped;         // stopped: by Ctrl-C
        char why[128];               // the first failure's reason
};

// Ends when all is answered, or at Ctrl-C.
typedef void load_http_run_fn(struct load_run *run);
__attribute__((visibility("default"))) load_http_run_fn load_http_run;
