// The frames of joining: a process asks for a seat over a SEQPACKET socket and gets its pages, or a reason.
//
//   client                                   daemon
//     JOIN (versions, devices by UUID)  ──▶
//                                       ◀──  WELCOME (versions, lane of each device) + 5 descriptors (enum
//                                       takt_fd)
//                                            or REFUSED (why)
//
// After that the socket carries nothing; its end is the news that one of the two is gone. Numbers are in host
// order: both ends run on one machine. Another major version is refused; the smaller minor and the common
// features are used.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define TAKT_WIRE_MAGIC UINT32_C(0x544b4154) // "TAKT"
#define TAKT_WIRE_MAJOR 1
#define TAKT_WIRE_MINOR 1
#define TAKT_WIRE_FEATURES UINT32_C(0) // a bit each, none yet: what both ends may use if both have it
#define TAKT_WIRE_DEVICES 16

enum takt_frame_type { TAKT_FRAME_JOIN = 1, TAKT_FRAME_WELCOME = 2, TAKT_FRAME_REFUSED = 3 };

enum takt_refusal {
        TAKT_REFUSAL_NONE = 0,
        TAKT_REFUSAL_VERSION = 1, // the daemon speaks another major version
        TAKT_REFUSAL_FULL = 2,    // no session is free
        TAKT_REFUSAL_DEVICE = 3,  // none of the devices is one that the tenant may use
};

// The descriptors that come with WELCOME, in this order.
enum takt_fd {
        TAKT_FD_DAEMON_PAGE,
        TAKT_FD_CLIENT_PAGE,
        TAKT_FD_TENANT_PAGE,
        TAKT_FD_KICK,
        TAKT_FD_WAKE,
        TAKT_N_FDS
};

struct takt_frame_head {
        uint32_t magic;
        uint16_t type;
        uint16_t size; // bytes of the whole frame, head included
        uint16_t major, minor;
        uint32_t features;
};

struct takt_frame_join {
        struct takt_frame_head head;
        uint32_t n_devices; // in the order of the process's CUDA ordinals
        uint32_t reserved;
        uint8_t uuid[TAKT_WIRE_DEVICES][16];
};

struct takt_frame_welcome {
        struct takt_frame_head head;
        uint64_t tenant;
        int8_t lane[TAKT_WIRE_DEVICES]; // lane of each device of JOIN; -1: not Takt's
};

struct takt_frame_refused {
        struct takt_frame_head head;
        uint32_t reason; // enum takt_refusal
        uint32_t reserved;
};

union takt_frame {
        struct takt_frame_head head;
        struct takt_frame_join join;
        struct takt_frame_welcome welcome;
        struct takt_frame_refused refused;
};

// Fills in the head of a frame of `type`; the rest is zeroed. Returns the size to send, 0 for an unknown
// type.
size_t takt_frame_init(union takt_frame *frame, enum takt_frame_type type);

// What two ends of the same major version may use, written into a head of ours: the smaller minor version and
// the features that both have.
void takt_frame_agree(struct takt_frame_head *ours, const struct takt_frame_head *theirs);

// Checks and copies what came from a peer. Returns 0; -EBADMSG (not a whole frame of ours, or a count out of
// range); -EPROTONOSUPPORT (another major version: answer REFUSED, do not read on). A longer frame of a later
// minor version is accepted; what we do not know of it is left out.
int takt_frame_parse(const void *data, size_t size, union takt_frame *ret_frame);
