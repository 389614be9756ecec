// Every table of the daemon is sized at the start, here.
#pragma once
#include "core/core.h"

#define NODE_TENANTS_MAX CORE_SEATS_MAX
#define NODE_SESSIONS_MAX 512
#define NODE_STREAMS_MAX 1024 // open request and control connections
// Descriptors that full tables take: a tenant's sockets and page, what a session's peer is watched and woken
// by; and whatever else is open.
#define NODE_DESCRIPTORS_MAX (NODE_TENANTS_MAX * 3 + NODE_SESSIONS_MAX * 4 + NODE_STREAMS_MAX + 128)
#define NODE_STATUS_TENANTS 4       // whose status is told in one turn of the loop: 0.2 ms
#define NODE_SEND_BUFFER 16384      // the kernel's, of a control connection: as much as a few tenants' status
#define NODE_NAME_SIZE 384          // a pod's: namespace (63), name (253), container (63)
#define NODE_BOUND_NS (2 * TAKT_MS) // most work in flight while others have a seat
#define NODE_SWITCH_NS                                                                                       \
        (100 * TAKT_US) // what a change of holder costs until it is measured (`script/gpu-check`)
#define NODE_SLICE_NS (2 * TAKT_MS)
#define NODE_SAMPLE_NS (20 * TAKT_MS) // how often what sessions used is read for the account
#define NODE_NVML_MS 30000            // how long NVML may take to say which GPUs there are
#define NODE_NVML_SILENT "NVML: gives no answer for 30 s"
#define NODE_WATCHDOG_NS (10 * TAKT_S)
