// The plan of a load: when each request is due, and how long its prompt and answer are; from a seed or a
// trace.
#pragma once
#include <stdint.h>

struct load_request {
        uint64_t due_ns; // after the start
        uint32_t prompt_tokens, output_tokens;
};

struct load_wish {
        double rate; // Poisson arrivals a second
        uint64_t duration_ns;
        uint64_t seed;
        uint32_t prompt[2], output[2]; // uniform, both ends included
};

// Both return the number of requests (their array is the caller's to free), or a negative errno.
int load_plan_poisson(const struct load_wish *wish, struct load_request **ret);
// Lines "time_s,prompt_tokens,output_tokens", sorted by time; a first line of names is passed over. Times are
// divided by `speed`; what comes after the duration is left out. -EBADMSG: a line is none, *ret_line says
// which.
int load_plan_trace(const char *path, double speed, uint64_t duration_ns, struct load_request **ret,
                    int *ret_line);
