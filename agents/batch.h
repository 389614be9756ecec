// Continuous batching: the sessions of an engine, computed together step by step. A step takes the next token
// of each session that is past its prompt, and is filled up with prompts, the oldest first. While there is a
// prompt, each second step is that alone: first tokens come sooner, and those that wait are computed together
// afterwards. Nothing here locks.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define BATCH_PLACES_MAX 256

// A part of a session that a step computes, until which the session stays as it is.
struct batch_row {
        int place;             // the session's
        int32_t at;            // tokens computed before
        int32_t n;             // and now
        const int32_t *tokens; // the session's
        bool last;             // the token that follows these is wanted
};

// What is said of a session.
struct batch_said {
        int32_t place;
        int32_t token; // BATCH_NONE: none
        int32_t over;  // nothing more is said; the place is free
};

#define BATCH_NONE -1

struct batch_session {
        uint64_t came; // counts up; 0: the place is free
        int32_t *prompt;
        int32_t length; // of the prompt
        int32_t at;     // tokens computed
        int32_t token;  // the next, past the prompt
        int32_t left;   // tokens still wanted
        bool in_prompt, ignores_end, leaves;
};

// All zero but for the size: no sessions.
struct batch {
        int32_t size; // tokens in a step: one for each place at least
        bool alone;   // the last step was of prompts only
        uint64_t came;
        struct batch_session sessions[BATCH_PLACES_MAX];
};

// Wanted are `most` tokens (at least 1) that follow a prompt of at least 1, or those until the model ends its
// text unless that is ignored. The place is free. The prompt is the batch's to free from now on.
void batch_follow(struct batch *b, int place, int32_t *prompt, int32_t length, int32_t most,
                  bool ignores_end);
// No more is wanted of a session, if it is not over already.
void batch_leave(struct batch *b, int place);

// Between two steps. One that leaves is over: gives its place, or BATCH_NONE when there is none left.
int batch_left(struct batch *b);
// The next step, in the order of places, for llama.cpp computes neighbours together: at most BATCH_PLACES_MAX
// rows. 0: nothing to compute.
int batch_step(struct batch *b, struct batch_row *rows);
// A row is computed, and `token`, which ends the text or does not, follows if it was its session's last.
// False: there is nothing to say.
bool batch_advance(struct batch *b, const struct batch_row *row, int32_t token, bool is_end,
                   struct batch_said *said);
// A session is over, whatever it wanted.
void batch_end(struct batch *b, int place);
