// llama.cpp's CUDA engine, the process's only one: it computes the steps of a batch in a thread of its own,
// one after the other while there is something to compute. Between two steps the device has nothing to do:
// nothing is waited for there, and nobody woken.
#pragma once
#include "batch.h"

// Of a session whose step could not be computed.
#define ENGINE_FAILED -2

struct engine_wish {
        const char *libraries; // the folder of llama.cpp's backends
        const char *model;     // a GGUF file
        int32_t context;       // tokens of a sequence
        int32_t sequences;     // at most BATCH_PLACES_MAX
        int32_t batch_size;    // tokens in a step
};

// NULL, or why it cannot be loaded. Once.
const char *engine_load(const struct engine_wish *wish);
// Ends the thread, after the step that it computes; or, if that takes too long, the process.
void engine_stop(void);
// Tokens that a sequence has room for; that the model knows.
int32_t engine_context(void);
int32_t engine_vocabulary(void);

// As a batch's; a session that leaves is said to be over once its place is free.
void engine_follow(int place, int32_t *prompt, int32_t length, int32_t most, bool ignores_end);
void engine_leave(int place);
// A timerfd: expires when something has been said.
int engine_fd(void);
// What has been said since, at most `room`; the number.
int engine_hear(struct batch_said *said, int room);

// Any thread's. The tokens of a text, the caller's to free; their number, -1 without memory.
int32_t engine_tokenize(const char *text, int32_t bytes, int32_t **tokens);
// The text of tokens, up to `room` bytes, which may end within a character; the number, negative if there is
// no room.
int32_t engine_detokenize(const int32_t *tokens, int32_t n, char *text, int32_t room);
