// What the files of the driver share: contexts, streams, events, functions and graphs of this process.
#pragma once
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include "simgpu/devices.h"

#define API __attribute__((visibility("default"))) int

enum {
        SUCCESS = 0,
        INVALID_VALUE = 1,
        OUT_OF_MEMORY = 2,
        NOT_INITIALIZED = 3,
        NO_DEVICE = 100,
        INVALID_DEVICE = 101,
        INVALID_CONTEXT = 201,
        INVALID_HANDLE = 400,
        NOT_FOUND = 500,
        NOT_READY = 600,
        NOT_SUPPORTED = 801,
        CAPTURE_UNSUPPORTED = 900,
        CAPTURE_MERGE = 902,
        CAPTURE_UNMATCHED = 903,
        UNKNOWN = 999,
};

// A handle that names a stream without being one, as 1 does the legacy stream.
#define STREAM_PER_THREAD ((struct stream *)2)

#define SCHED_BLOCKING_SYNC 4u // of a context: waits sleep
#define EVENT_BLOCKING_SYNC 1u // of an event: who waits for it sleeps

struct graph_node {
        int type; // CUgraphNodeType: 0 kernel, 1 memcpy, 2 memset, 3 host, 5 empty
        uint64_t cost_ns;
        const struct function *function;
        unsigned grid[3], block[3], shared;
        void **params;
        void *to; // memcpy, memset
        const void *from;
        size_t size; // memset: how many pieces of the width
        uint64_t value;
        unsigned width;
        void (*host)(void *);
        void *host_arg;
};

struct graph {
        struct graph_node **node;
        size_t n, room;
};

struct graph_exec {
        struct graph *graph; // its own copy
        uint64_t cost_ns;
        int has_copies;
};

struct stream {
        struct context *context;
        uint32_t lane;        // of the context's work; streams of one lane run in the order of submission
        uint64_t position_ns; // its last submission's place in the lane
        uint64_t copied_ns;   // when its copies are done, once that work is
        uint64_t id;
        unsigned flags;
        int priority;
        struct graph *capture; // NULL: not capturing
        uint64_t capture_id;
        int is_origin;                          // the capture began here
        struct stream *joined, *next_capturing; // the streams drawn into it; a list of either kind
        int is_default;
};

struct context {
        struct sim_segment *sim; // of its device
        uint32_t slot;           // in the segment
        uint64_t id;
        int device, is_primary, references;
        unsigned flags;
        int may_spin; // this process's waits do unless somebody asked for others
        struct stream legacy;
        uint32_t next_lane;                  // for the next stream
        uint64_t position_ns[SIM_LANES_MAX]; // everything submitted
        uint64_t blocking_ns[SIM_LANES_MAX]; // what the legacy stream waits for
        struct storage *storage;
};

struct event {
        struct context *context;
        uint64_t position_ns[SIM_LANES_MAX]; // what it waits for
        uint32_t lane;                       // of its stream
        uint64_t copied_ns;
        int recorded;
        uint64_t capture_id; // recorded in this capture; 0: in none
        unsigned flags;
};

struct function {
        char *name;
        struct module *module;
        int is_llm_row; // the profile's kernel whose rows carry the time of a layer
        uint64_t cost_ns;
        int dynamic_shared;
};

extern struct sim_segment *sims[SIM_DEVICES_MAX]; // those that this process sees

// context.c
struct context *context_current(void);
struct context *context_primary(int device);
struct context *context_on(int device); // the current one, or of another device the primary one
int driver_ready(int device);           // SUCCESS, or the error of a call before cuInit or on no such device
int context_spins(const struct context *context); // while it waits

// stream.c: NULL, legacy and per-thread handles become streams; NULL when there is no context.
struct stream *stream_of(struct stream *handle);
int stream_submit(struct stream *stream, uint64_t cost_ns);
int stream_copy(struct stream *stream, int engine, uint64_t cost_ns); // beside the compute engine
int stream_wait(struct stream *stream);
int context_wait(struct context *context);
uint64_t stream_new_id(void);
// The places in the lanes that stand for all of the stream's work.
void stream_positions(const struct stream *stream, uint64_t ret_position_ns[SIM_LANES_MAX]);
// For work up to those places, and for copies.
int work_wait(struct context *context, const uint64_t position_ns[SIM_LANES_MAX], uint64_t copied_ns,
              int spins);
int work_is_done(struct context *context, const uint64_t position_ns[SIM_LANES_MAX], uint64_t copied_ns);

// capture.c
int capture_active(void); // captures of this process that go on
// Draws the stream into a capture; INVALID_VALUE when that is over, CAPTURE_MERGE when it is in another one.
int capture_join(struct stream *stream, uint64_t id);
void capture_leave(struct stream *stream); // before it is destroyed

// cost.c
uint64_t cost_of_kernel(const struct function *function, const unsigned grid[3], const unsigned block[3]);
uint64_t cost_of_copy(size_t bytes, int on_device);
int cost_is_row_kernel(const char *name);

// graph.c
struct graph_node *graph_add(struct graph *graph, int type);
struct graph *graph_new(void);
void graph_free(struct graph *graph);

// memory.c
void memory_fill(void *to, uint64_t value, unsigned width, size_t n); // n pieces of so many bytes
int memory_is_device(const void *pointer);                            // pinned memory of the host is not

// symbols.c: one row of cudaTypedefs.h
struct symbol {
        const char *name;
        int version, flag; // flag 2: for the per-thread default stream
        int (*entry)(void);
};
extern const struct symbol symbols[];
extern const size_t n_symbols;

// tables.c, integrity.c
int tables_get(const void **ret_table, const unsigned char uuid[16]);
int integrity_check(unsigned version, uint64_t seconds, uint64_t ret_answer[2]);
const void *tables_interface(void);
const void *tables_integrity(void);

// Each function and its per-thread variant, for which stream 0 is the calling thread's own.
#define BOTH(name, fn, params, args)                                                                         \
        API name params                                                                                      \
        {                                                                                                    \
                stream = stream_of(stream);                                                                  \
                return fn args;                                                                              \
        }                                                                                                    \
        API name##_ptsz params                                                                               \
        {                                                                                                    \
                stream = stream_of(stream ? stream : STREAM_PER_THREAD);                                     \
                return fn args;                                                                              \
        }
