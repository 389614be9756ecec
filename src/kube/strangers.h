// Who uses a GPU past Takt: processes that NVML names and that are nobody's tenant (the shim is not loaded in
// them: a static program, musl, an LD_LIBRARY_PATH of its own; or they are of no pod of ours). NVML is large,
// may hang, and is somebody else's: a child process asks it, and has a deadline.
#pragma once
#include "kube/claims.h"
#include "kube/lines.h"
#include "kube/wishes.h"

struct strangers {
        struct wishes *wishes;
        struct claims *claims; // NULL: no GPU goes by claims
        const char *node;
        uint32_t crowded; // bits of GPUs of which it was said that they have too many processes
        uint8_t none;     // there is no NVML
        uint8_t silent;   // that it does not answer was said
        pid_t child;      // 0: none runs
        struct watch answer;
        struct lines lines;
        uint64_t due_ns, deadline_ns;
        uint32_t n_seen;
        struct stranger {
                pid_t pid;
                uint32_t device, round; // the answer that named it last
                uint32_t n_rounds;      // in a row
        } seen[KUBE_STRANGERS_MAX];
        uint32_t round;
};

// The storage is all 0. wishes: open or not.
void strangers_open(struct strangers *strangers, struct wishes *wishes, const char *node);
// Asks now, if nobody is being asked.
void strangers_ask(struct strangers *strangers);
uint64_t strangers_due(const struct strangers *strangers);
void strangers_tick(struct strangers *strangers, uint64_t now_ns);
void strangers_close(struct strangers *strangers);
