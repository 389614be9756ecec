// The process that talks with NVML: it may hang, and it may die; the daemon goes on.
//
// It is started with the GPUs' UUIDs, and writes lines to descriptor 3:
//
//   answers UUID        the GPU answers, and its driver asks for no reset
//   silent UUID WORDS   it does not, or does
//   error UUID XID      an XID was raised
//   turn                all GPUs were looked at
//
// An end with status 69 says that there is no NVML: nothing to be started again for.
#pragma once
#include "kube/link.h"
#include "kube/slots.h"

#define HELPER_FD 3
#define HELPER_NO_NVML 69

struct helper {
        const struct host *host;
        const struct slots *slots;
        struct watch lines, process; // `process`: a pidfd
        int pid;                     // 0: there is none
        uint8_t hung, told;          // told: that it hangs or dies was said, and it has not answered since
        uint64_t due_ns, wait_ns;    // when it is late, or is started again
        uint64_t started_ns;
        size_t n_text;
        char text[256]; // of a line that is not whole yet
        void (*heard)(void *context, uint32_t device, const char *what, const char *words);
        void *context;
};

// heard: for each line but `turn`, with what is behind the UUID. Starts it; nothing that happens is an error.
void helper_open(struct helper *helper, const struct host *host, const struct slots *slots,
                 void (*heard)(void *, uint32_t, const char *, const char *), void *context);
uint64_t helper_due(const struct helper *helper);
void helper_tick(struct helper *helper, uint64_t now_ns);
void helper_close(struct helper *helper);
