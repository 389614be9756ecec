// What the simulated device may be told of itself: every setting's range, default and meaning. Where the
// values come from is profile.h's.
#pragma once
#include <stdint.h>

// SIMGPU_LLM: how long a large model's steps take.
struct sim_llm {
        uint64_t decode_ns, extra_percent, prefill_ns, norms;
};

// A number, a state (1 or 0) or a slice, as it is set or else by default; times are in ns.
uint64_t sim_number(const char *name);
// 0, or -EINVAL for a text that says something else.
int sim_llm_read(const char *text, struct sim_llm *ret);
// The version of CUDA that the driver claims, as cuDriverGetVersion says it: 13000 for 13.0.
int sim_driver_version(void);
// Whether a profile may set it.
int sim_settings_has(const char *name);
// 0, or -EINVAL when a setting makes no sense or the profile cannot be read, which standard error is told:
// then there is no device, for times of another device than the one asked for would be worse than none.
int sim_settings_check(void);
// What was refused last; "" for nothing.
const char *sim_settings_refused(void);
