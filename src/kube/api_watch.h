// What the API server has of some kind of object, and each change of it: a list, then a watch, which goes on
// where it was when its connection ends, and lists anew when the server has forgotten that place.
#pragma once
#include "kube/api.h"
#include "kube/lines.h"

enum api_event { API_LISTED, API_ADDED, API_MODIFIED, API_DELETED };

// All are called from the loop; any may close the watch.
struct api_watcher {
        void (*begin)(void *context); // a list begins: what is not LISTED until `synced` is no more
        void (*event)(void *context, enum api_event event, json_t *object); // the object during the call only
        void (*synced)(void *context);
        void (*lost)(void *context, const char *why); // no news for a while: it is tried again
};

enum api_watch_state {
        API_WATCH_WAITING = 0, // until `due_ns`, then goes on
        API_WATCH_LISTING,
        API_WATCH_OPENING, // the request for the stream is on its way
        API_WATCH_OPEN,
};

struct api_watch {
        struct api_watch *next;
        struct api *api;
        const struct api_watcher *watcher;
        void *context;
        enum api_watch_state state;
        char *path;        // ours
        char version[64];  // where to go on; "": list anew
        char *more;        // where the list goes on; NULL: at its start
        uint32_t page;     // objects of an answer
        uint32_t n_pages;  // of the list so far
        uint8_t ill;       // its last ask had no answer
        uint8_t unwell;    // said already: what it answers is no watch
        uint8_t settled;   // the stream has lasted
        uint8_t cut;       // the last stream ended at once
        uint8_t forgotten; // no stream has lasted since the server had forgotten where to go on
        uint8_t said_long; // that an object is left out
        uint64_t due_ns, wait_ns, began_ns;
        uint64_t half_ns; // when the change that is not whole has to be
        struct secure secure;
        struct http http;
        struct lines lines;
};

// path: of a collection, with its selectors ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1"); it is copied.
// The watch lists itself with the api, whose tick drives it. Returns 0 or -ENOMEM.
int api_watch_open(struct api_watch *watch, struct api *api, const char *path,
                   const struct api_watcher *watcher, void *context);
void api_watch_close(struct api_watch *watch);

// For api.c.
uint64_t api_watch_due(const struct api_watch *watch);
void api_watch_tick(struct api_watch *watch, uint64_t now_ns);
