// One GPU's health by what NVML says of it: ill by an error of its own or when it answers no more, well again
// when it answers and has had no error for a while.
#pragma once
#include <stdint.h>

struct vitals {
        uint8_t known; // it has answered once: one that NVML never knew is not watched
        uint8_t silent, ill;
        uint64_t error_ns; // when the last error of its own was
        char why[96];      // it is lost
};

void vitals_answers(struct vitals *vitals, uint64_t now_ns);
void vitals_silent(struct vitals *vitals, const char *why);
void vitals_error(struct vitals *vitals, uint32_t xid, uint64_t now_ns);
int vitals_lost(const struct vitals *vitals);
// Whether an XID is an application's own fault, and the GPU is well after it.
int vitals_is_applications(uint32_t xid);
