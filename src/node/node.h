// The daemon's state: devices, tenants, sessions, connections; all in one place, all of fixed
// size but for what an answer's reader has no room for (answer.c).
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include "base/bits.h"
#include "base/histogram.h"
#include "base/time.h"
#include "core/core.h"
#include "node/door.h"
#include "node/limits.h"
#include "node/record.h"
#include "node/usage.h"
#include "wire/page.h"

struct device {
        char name[64];
        uint8_t uuid[16];
        uint64_t memory_bytes;
};

struct session {
        uint8_t used;
        uint32_t tenant;
        struct session *next; // of the tenant's
        pid_t pid;
        struct watch socket, kick, process; // `process`: the peer's pidfd
        int wake;
        struct takt_page_daemon *daemon; // ours to write
        struct takt_page_client *client; // the client's to write
        struct takt_lane_view seen;      // of the tenant's lane, as last told to the core
        uint64_t busy_ns;                // GPU time that it has used, as far as that can be true
        uint64_t page_busy_ns;           // and what its page said last
        uint64_t counted_ns;             // when that grew last
        uint64_t sampled_busy_ns;        // what the account has of it
};

struct tenant {
        uint8_t used, seated;
        uint8_t by_door; // lives until the door drops it; the door says who may join
        uint8_t watched, free_mode;
        char name[NODE_NAME_SIZE];
        char dir[112];
        uid_t uid;
        uint32_t device;
        struct core_contract contract;
        struct watch join, requests;
        struct takt_page_tenant *page;
        int page_fd;
        int32_t control; // the stream that registered it; -1: gone
        uint32_t n_sessions;
        struct session *sessions; // that have joined
        // What the core was told: whether any process is busy, or wants.
        uint8_t busy, wants;
        uint64_t busy_since_ns;
        uint64_t untold_ns; // GPU time of finished bursts that the core has not heard of
        uint32_t untold_steps;
        uint64_t want_since_ns;
        struct takt_histogram waits;
        struct usage usage;
};

enum stream_kind { STREAM_CONTROL, STREAM_REQUESTS };

struct stream {
        uint8_t used;
        enum stream_kind kind;
        uint32_t tenant; // of a requests stream
        uid_t uid;
        struct watch watch;
        size_t size;
        char text[4096]; // the line that is being received
        char *unsent;    // of an answer, what its reader has no room for yet
        size_t unsent_size, n_sent;
        enum { STATUS_NONE, STATUS_HEAD, STATUS_TENANTS } telling; // what of a status comes next
        uint8_t told, is_cut; // a tenant was told of; it is to be dropped
        uint32_t next;        // the tenant that comes next
};

struct node {
        int epoll, spare;
        struct watch timer, control, stop, sample, streams;
        uint64_t started_ns, due_ns, timer_ns; // when the core wants to be asked; what the timer is set to
        uint64_t sampled_ns;                   // when the pages were last read for the account
        char dir[80];
        uint8_t user_mode, quit, sampling, answering;
        struct core *core;
        uint32_t n_devices;
        struct device device[CORE_DEVICES_MAX];
        struct tenant tenant[NODE_TENANTS_MAX];
        struct session session[NODE_SESSIONS_MAX];
        struct stream stream[NODE_STREAMS_MAX];
        uint32_t n_sessions;                     // that have joined
        struct tenant *holder[CORE_DEVICES_MAX]; // whose gate is open, or NULL
        // Tenants whose gates closed: the core waits to hear what their pages say.
        uint64_t owing[TAKT_BITS_WORDS(NODE_TENANTS_MAX)];
        uint64_t n_events;
        const struct door *door; // NULL: none
        struct record_file *record;
};

// watch.c
int watch_start(struct node *node);
int watch_add(struct node *node, struct watch *watch, int fd, uint32_t index,
              void (*ready)(struct node *, struct watch *, uint32_t));
// Calls `ready` once for each write, with nothing to be read.
int watch_add_news(struct node *node, struct watch *watch, int fd, uint32_t index,
                   void (*ready)(struct node *, struct watch *, uint32_t));
// For control and request connections: of all that have news one is heard a turn, so that a flood of theirs
// holds up no gate.
int watch_add_stream(struct node *node, struct watch *watch, int fd, uint32_t index,
                     void (*ready)(struct node *, struct watch *, uint32_t));
void watch_change(struct node *node, struct watch *watch, uint32_t events); // EPOLLIN, EPOLLOUT
void watch_remove(struct node *node, struct watch *watch);
int listen_at(const char *path, int type, uid_t owner);
int accept_at(struct node *node, int fd); // -1: nobody, or nobody that there is room for
int peer_of(int fd, uid_t *ret_uid, pid_t *ret_pid);

// devices.c: finds the GPUs; "UUID:BYTES" adds one by hand. Return the number, or a negative errno.
int devices_find(struct node *node);
int devices_add(struct node *node, const char *text);
int devices_list(struct node *node);                               // prints them; returns the exit code
void devices_uuid(const struct device *device, char ret_text[41]); // "GPU-" and five groups

// session.c
void session_accept(struct node *node, struct watch *watch, uint32_t events);
void session_drop(struct node *node, uint32_t session);
// Its tenant's lane. Of the GPU time that its page says, no more counts than time has passed.
void session_read(const struct node *node, struct session *session, uint64_t now_ns,
                  struct takt_lane_view *ret_view);

// grant.c: tells the core, and does what it says.
void grant_tell(struct node *node, struct core_event event, struct core_refusal *ret_refusal);
void grant_read(struct node *node, uint32_t session);
void grant_look(struct node *node); // at all pages, what nobody was told yet: the accounts are as of now then
void grant_timer(struct node *node, struct watch *watch, uint32_t events);
void grant_arm(struct node *node); // sets the timer to what the core wants: once a turn, after its gates
void grant_show(struct node *node, uint32_t session);

// sample.c: what sessions used, for their tenants' accounts. `wake`: one has begun, or the daemon is awake
// anyway.
int sample_start(struct node *node);
void sample_wake(struct node *node);
// Returns whether it is at work, or was a moment ago.
int sample_session(struct node *node, struct session *session);

// tenant.c
struct tenant_order {
        const char *name;
        const struct core_contract *contract; // complete
        uint32_t device;
        int32_t reclaim; // the number it had before; -1: any
        uid_t uid;
        int32_t control; // the stream that keeps it
        const char *dir; // of a tenant by the door; NULL: of its number
};
int tenant_register(struct node *node, const struct tenant_order *order, struct core_refusal *ret_refusal);
// Another contract (complete) in the place of its own, which it keeps if it is refused: -EDQUOT.
int tenant_amend(struct node *node, uint32_t tenant, const struct core_contract *contract,
                 struct core_refusal *ret_refusal);
void tenant_unused(struct node *node, uint32_t tenant);
void tenant_drop(struct node *node, uint32_t tenant);
void node_rest(struct node *node);

// control.c
void stream_accept(struct node *node, struct watch *watch, uint32_t events);
void stream_drop(struct node *node, uint32_t stream);
void refusal_explain(const struct node *node, const struct core_refusal *refusal, char *text, size_t size);

// answer.c: text is a line on the heap, or a piece of one, and taken over; NULL: there was no memory for it.
void answer_send(struct node *node, struct stream *stream, char *text, size_t size);
void answer_go_on(struct node *node, struct stream *stream); // its reader has room again
void answer_drop(struct stream *stream);

// status.c
void status_begin(struct node *node, struct stream *stream);
void status_go_on(struct node *node, struct stream *stream); // what was told last is sent

// door.c: loads the Kubernetes side and opens it. 0, or a negative errno with the reason.
int door_open(struct node *node, const char *config, char *why, size_t size);
