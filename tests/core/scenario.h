// A scenario: continuous-batching agents, a GPU that slices as the hardware does, and either no scheduler or
// the core.
//
// Everything happens in simulated time. The agents and the load are those of the demo; the device knows
// nothing of Takt: it shares itself in round robin among whoever has submitted work. With the core, a closed
// gate keeps an agent from submitting its next piece; the driver here does what taktd and the shim do, with
// the delay of a hand-over.
#pragma once
#include <stdint.h>
#include "core/core.h"

#define SCENARIO_AGENTS_MAX 8
#define SCENARIO_SAMPLES_MAX 65536

enum scenario_policy {
        SCENARIO_ALONE, // each agent has a device of its own
        SCENARIO_STOCK, // no gates
        SCENARIO_TAKT,  // gates by the core, requests seen
        SCENARIO_BLIND, // gates by the core, requests not seen
};

struct scenario_agent {
        const char *name;
        double rate;          // requests a second
        double prefill_ms[2]; // uniform
        double decode_ms;     // one step of one session; 3 % more for each further one
        unsigned tokens[2];   // uniform
        double objective_ms;  // on the first token, or end to end
        int end_to_end;       // whether the objective is end to end
        struct core_contract contract;
};

struct scenario {
        struct scenario_agent agent[SCENARIO_AGENTS_MAX];
        uint32_t n_agents;
        double minutes;
        double load;          // multiplies all rates; 1 as stated
        uint64_t handover_ns; // from the core's decision to the first submission
        uint32_t sequences;   // that an agent computes at once; 0: as many as come
        double host_ms;       // the host's time between two steps of one session, at least
        double host_more_ms;  // and in the mean so much more, exponentially distributed
        uint64_t piece_ns;    // under gates, a prefill is submitted in pieces of this length
        int pieces_are_steps; // with the host's time between them
        int tells_late;       // of a step's tokens, when the next step has begun
        struct core_device_config device;
};

struct scenario_samples {
        uint32_t n;
        uint32_t late;
        double ms[SCENARIO_SAMPLES_MAX]; // sorted
};

struct scenario_result {
        struct scenario_samples ttft[SCENARIO_AGENTS_MAX], end_to_end[SCENARIO_AGENTS_MAX];
        double elapsed_ms, busy_ms;
        double agent_ms[SCENARIO_AGENTS_MAX]; // the device worked for each, while requests came
        double waited_ms, wasted_ms; // an agent waited at a closed gate; of that, the device was idle
        uint64_t switches, core_steps, bypasses, overruns;
        int refused; // seat that the core refused + 1; 0: none
        struct core_refusal refusal;
};

// The demo's load and contracts.
void scenario_demo(struct scenario *scenario);
// The same as the demo's engine was seen to do it on two cores: 0.2 ms of host time at least, 0.35 at the
// median, 1.2 or more once in a hundred steps; prompts in graphs of 15 ms, a step each; and a step's tokens
// go out when the next step has begun.
void scenario_engine(struct scenario *scenario);
// That on a slow day: the host takes half as long again with one session, and all steps take a tenth longer.
void scenario_slow(struct scenario *scenario);
// Runs it; the same seed gives the same arrivals under every policy. ret is the caller's (it is large).
void scenario_run(const struct scenario *scenario, enum scenario_policy policy, uint64_t seed,
                  struct scenario_result *ret);
// Of sorted samples: the value at `part` (0 to 1), the mean, the share that is late.
double scenario_at(const struct scenario_samples *samples, double part);
double scenario_mean(const struct scenario_samples *samples);
// The samples that the agent's objective is about.
const struct scenario_samples *scenario_judged(const struct scenario *scenario,
                                               const struct scenario_result *result, uint32_t agent);
