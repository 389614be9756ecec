// The most that the Kubernetes side keeps or takes of anything.
#pragma once
#include "base/time.h"

#define KUBE_MESSAGE_MAX (UINT32_C(4) << 20) // bytes of one gRPC message from a caller
#define KUBE_ANSWER_MAX (UINT32_C(16) << 20) // and from a server that we ask (the kubelet's own limit)
#define KUBE_UNSENT_MAX (UINT32_C(4) << 20)  // bytes of a call that its peer has not taken
#define KUBE_CALLS_MAX 64                    // at once on one connection
#define KUBE_LINKS_MAX 32                    // connections
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
#define KUBE_WAITING_MAX 8            // Allocate calls that wait for its answer
#define KUBE_FAREWELL_NS (1 * TAKT_S) // how long a kubelet may take to close a connection that we ended
