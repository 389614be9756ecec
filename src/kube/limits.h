// The most that the Kubernetes side keeps or takes of anything.
#pragma once
#include "base/time.h"

#define KUBE_MESSAGE_MAX (UINT32_C(4) << 20) // bytes of one gRPC message from a caller
#define KUBE_ANSWER_MAX (UINT32_C(16) << 20) // and from a server that we ask (the kubelet's own limit)
#define KUBE_UNSENT_MAX (UINT32_C(4) << 20)  // bytes of a call that its peer has not taken
#define KUBE_CALLS_MAX 64                    // at once on one connection
#define KUBE_LINKS_MAX 4                     // connections at one socket of ours
#define KUBE_PATH_MAX 128                    // of a method's name
#define KUBE_TEXT_MAX 512                    // of a status' message
#define KUBE_DEVICES_MAX 16                  // as the core has
#define KUBE_RESOURCES_MAX 8
#define KUBE_SLOTS_MAX 640                // of all resources
#define KUBE_REPLICAS_MAX 64              // slots of one resource on one GPU
#define KUBE_SCRAPES_MAX 8                // HTTP connections at once
#define KUBE_SCRAPE_HEAD_MAX 8192         // bytes of a request
#define KUBE_SCRAPE_NS (10 * TAKT_S)      // longest silence of an HTTP connection
#define KUBE_CALM_NS (5 * TAKT_S)         // a GPU is well this long after its last error, if it answers
#define KUBE_PULSE_NS (20 * TAKT_S)       // longest silence of the health helper: it says something every 5 s
#define KUBE_HELPER_MAX_NS (300 * TAKT_S) // longest wait before it is started again
#define KUBE_RETRY_MIN_NS (20 * TAKT_MS)  // first wait before registering again; doubles
#define KUBE_RETRY_MAX_NS (10 * TAKT_S)
#define KUBE_CALL_NS (5 * TAKT_S)     // deadline of the calls that we make
#define KUBE_LOOK_NS (10 * TAKT_S)    // how often the kubelet is asked who has which slot
#define KUBE_NEWS_NS (500 * TAKT_MS)  // so much later than the kubelet we may hear of a new pod
#define KUBE_WAITING_MAX 8            // Allocate calls that wait for its answer
#define KUBE_FAREWELL_NS (1 * TAKT_S) // how long a kubelet may take to close a connection that we ended
#define KUBE_CLAIMS_MAX 256           // that are prepared at once: as many as the core has seats
#define KUBE_CLAIM_RESULTS_MAX 4      // GPUs (shares) of one claim
#define KUBE_CLAIM_PODS_MAX 256       // pods that one claim is reserved for (the API server's own limit)
#define KUBE_CLAIM_RECORD_MAX 65536   // bytes of a claim's record
#define KUBE_CLAIM_CONFIGS_MAX 64     // configurations of one claim (the API server's own limit)
#define KUBE_PREPARE_MAX 32           // Prepare calls at once
#define KUBE_PREPARE_CLAIMS_MAX 16    // claims in one call
#define KUBE_REREAD_NS                                                                                       \
        (1 * TAKT_S) // how often a claim is read again for a process of an unknown pod (says so, too)
#define KUBE_HEALTH_NS                                                                                       \
        (20 * TAKT_S) // how often health is told though it is the same (after 30 s it is unknown)
#define KUBE_API_ANSWER_MAX (UINT32_C(4) << 20)  // bytes of an answer of the API server, or of a watch's line
#define KUBE_JSON_VALUES_MAX (UINT32_C(1) << 16) // of it: as a tree, 12 MiB at most
#define KUBE_API_PAGES_MAX 4096                  // answers of one list
#define KUBE_API_MORE_MAX 4096                   // bytes of the word by which a list goes on
#define KUBE_API_ASKS_MAX 48                     // requests to it that wait or are on their way
#define KUBE_API_LINES 2                         // connections for them; each watch has one of its own
#define KUBE_API_CALL_NS (10 * TAKT_S)           // deadline of each
#define KUBE_API_IDLE_NS (60 * TAKT_S)           // how long an unused connection is kept
#define KUBE_API_RETRY_MIN_NS (500 * TAKT_MS)    // first wait before a watch is begun anew; doubles
#define KUBE_API_RETRY_MAX_NS (60 * TAKT_S)
#define KUBE_API_WATCH_S 300    // what a watch asks the server to make of it; the next one goes on from there
#define KUBE_API_PAGE 16        // objects of one answer to a list
#define KUBE_PODS_MAX 256       // of this node that ask for a slot, or have annotations
#define KUBE_WRONG_MAX 200      // bytes of what is wrong in a pod's annotations
#define KUBE_EVENTS_MAX 128     // that may come again and are then counted, not written anew
#define KUBE_EVENT_TEXT_MAX 768 // bytes of an event's message
#define KUBE_EVENT_AGAIN_NS (30 * TAKT_S) // the least time between two writings of one event
#define KUBE_EVENTS_BURST 25              // events written at once,
#define KUBE_EVENT_NS (2 * TAKT_S)        // and then one in this time
#define KUBE_STRANGERS_MAX 64             // processes that use a GPU past Takt, and are kept track of
#define KUBE_STRANGERS_NS (30 * TAKT_S)   // how often NVML is asked for them
