// Requests to the API server: one at a time on each of a few connections, in the daemon's loop.
//
// A server that is slow, gone, or answers nonsense costs the asker an answer with a reason, and the log one
// line when it begins and one when it is over: when all who had no answer have had one.
#pragma once
#include <jansson.h>
#include "kube/api_where.h"
#include "kube/http.h"
#include "kube/limits.h"

// The answer. status: HTTP's; 0: there was none, and `error` says why (deadline, refused, TLS, no JSON).
// error is also the server's own words for a status from 400 on; else "". body: NULL where there is none; the
// caller's during the call only; of a list that is too large what it says of itself, without items.
typedef void api_done(void *context, int status, json_t *body, const char *error);

// The error of an answer of more than KUBE_API_ANSWER_MAX bytes, or KUBE_JSON_VALUES_MAX values.
#define API_TOO_LARGE "its answer is too large"

struct api_ask {
        api_done *done; // NULL: none
        void *context;
        const char *verb, *content_type;
        char *path, *body; // ours
        size_t n_body;
        uint64_t deadline_ns;
};

struct api;

// A connection for requests.
struct api_line {
        struct api *api;
        struct secure secure;
        struct http http;
        struct api_ask ask;
        char *answer;
        size_t n_answer, answer_size;
        uint8_t used_before, heard; // heard: bytes came since the ask
        uint64_t idle_since_ns;
};

struct api_watch;

struct api {
        const struct host *host;
        struct api_where where;
        struct secure_peer peer;
        uint8_t is_open;
        uint8_t stale;     // the certificates are to be read anew: TLS failed
        uint8_t unwell;    // said
        uint8_t ill;       // the last ask that is no watch's had no answer
        uint64_t call_ns;  // deadline of each ask, and of each change that a watch tells of
        uint64_t retry_ns; // first wait before a watch is begun anew; doubles
        uint32_t n_asks;
        struct api_ask ask[KUBE_API_ASKS_MAX]; // in order; not on a line yet
        struct api_line line[KUBE_API_LINES];
        struct api_watch *watches; // api_watch.h's
};

// Begins nothing yet. Returns 0, or a negative errno with the reason in `why`. The storage stays where it is.
int api_open(struct api *api, const struct host *host, const struct api_where *where, char *why, size_t size);
// Nobody's `done` is called any more. Does nothing on one that was never open (all 0).
void api_close(struct api *api);
// Asks. verb: "GET", "POST", "PUT", "PATCH", "DELETE", or another; it, and content_type (NULL: JSON's own;
// for PATCH name one), must last. path: with its query, in words that need no escapes. body: may be NULL;
// stays the caller's. `done` is called once, from the loop, never from here. Returns 0, or a negative errno,
// and `done` is not called: -ENOBUFS: too many wait; -ENOTCONN: not open; -ENOMEM.
int api_ask(struct api *api, const char *verb, const char *path, const char *content_type, const json_t *body,
            api_done *done, void *context);
// Forgets all that was asked with this context; `done` is not called.
void api_forget(struct api *api, const void *context);
// When api_tick is due, at the latest; to be asked after each turn.
uint64_t api_due(const struct api *api);
void api_tick(struct api *api, uint64_t now_ns);

// For api_watch.c: the head of a request, and its body, in new memory; NULL with the reason in `why`.
char *api_text(const struct api *api, const struct api_ask *ask, size_t *ret_size, char *why, size_t size);
// What became of an ask: error "" or why there was no answer. ill: who asked, the api's or a watch's. Says so
// once.
void api_said(struct api *api, uint8_t *ill, const char *error);
// Reads the certificates anew if that is due. Returns 0 or a negative errno.
int api_trust(struct api *api, char *why, size_t size);
