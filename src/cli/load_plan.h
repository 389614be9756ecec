// The plan of a load: when each request is due, and how long its prompt and answer are; from a seed or a
// trace.
#pragma once
#include <stdint.h>

#define LOAD_REQUESTS_MAX 10000000
#define LOAD_TOKENS_MAX 1000000 // of a prompt, or of an answer

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

// Both return the number of requests (their array is the caller's to free), or a negative errno; -E2BIG: more
// than LOAD_REQUESTS_MAX.
int load_plan_poisson(const struct load_wish *wish, struct load_request **ret);
// Reads a trace, sorted by time:
//   lines "time_s,prompt_tokens,output_tokens", in seconds; a first line of names is passed over;
//   Azure's LLM inference traces: TIMESTAMP,ContextTokens,GeneratedTokens; the first date is the start;
//   BurstGPT: Timestamp,...,Request tokens,Response tokens,...; in seconds;
//   Mooncake: a line of JSON each, with timestamp (ms), input_length, output_length.
// Columns are found by their names. A request without prompt or answer (it failed when the trace was taken)
// is left out, and so is what comes after the duration. Times are divided by `speed`. -EBADMSG: a line is
// none of these, *ret_line says which.
int load_plan_trace(const char *path, double speed, uint64_t duration_ns, struct load_request **ret,
                    int *ret_line);
// Adds to the n that are there; the new number, or a negative errno.
int load_plan_append(struct load_request **all, int n, struct load_request request);
