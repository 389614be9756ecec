// What the DRA driver asks of the API server: the boundary at which tests play the server.
#pragma once
#include <jansson.h>

// The answer, from the loop, never within the asking. status: HTTP's; 0: there was none. error: why, or the
// server's own words for a status from 400 on. body lives during the call.
typedef void cluster_done(void *context, int status, json_t *body, const char *error);

struct cluster {
        void *self;
        // Returns 0, or a negative errno, and then `done` is not called.
        int (*ask)(void *self, const char *verb, const char *path, const json_t *body, cluster_done *done,
                   void *context);
        // What was asked with this context is of no interest any more.
        void (*forget)(void *self, const void *context);
};
