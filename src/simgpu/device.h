// The device as a pure model: contexts with work, a clock, and the hardware's way of sharing itself among
// them.
//
// Work is counted in ns of device time. A context's queues are its lanes, each of two numbers, what was
// submitted and what is done: work of one lane runs in the order of submission, and a stream or event is a
// position in that order. Lanes of the context that has the device run at once, each at full speed: kernels
// that overlap are taken to be too small to disturb each other. A barrier holds a lane up until others have
// come so far. Nothing happens by itself: whoever looks moves the device's clock on.
#pragma once
#include <stdint.h>

#define SIM_CONTEXTS_MAX 64
#define SIM_LANES_MAX 4
#define SIM_BARRIERS_MAX 4
#define SIM_SAMPLE_NS UINT64_C(1000000000) // how long utilisation is looked at before it is told
#define SIM_LOG_MAX (1u << 18)

struct sim_barrier {
        uint64_t at_ns;                    // what lies behind this in its lane
        uint64_t needed_ns[SIM_LANES_MAX]; // waits until the lanes have done so much
};

struct sim_lane {
        uint64_t submitted_ns, done_ns;
        uint32_t first, n; // of the ring of barriers
        struct sim_barrier barrier[SIM_BARRIERS_MAX];
};

struct sim_context {
        uint32_t used;
        uint32_t process; // index of its process
        uint64_t busy_ns;
        uint32_t hung; // its work never ends
        uint32_t reserved;
        struct sim_lane lane[SIM_LANES_MAX];
};

enum sim_log_kind { SIM_LOG_RUN = 1, SIM_LOG_SWITCH = 2 };

struct sim_log_entry {
        uint64_t start_ns, end_ns;
        uint32_t pid;
        uint16_t context;
        uint8_t kind;
        uint8_t n_runnable; // contexts with work, the running one included, when the interval began
};

struct sim_device {
        uint64_t now_ns;
        uint64_t slice_ns, switch_ns;
        uint32_t mps; // contexts run side by side and slow each other down
        int32_t owner;
        uint64_t slice_end_ns, switch_left_ns;
        uint64_t busy_ns, switching_ns, switches;
        uint64_t sample_ns, sample_busy_ns; // when the running sample began, and busy_ns then
        uint32_t busy_percent;              // in the last sample that is over
        uint32_t reserved;
        struct sim_context context[SIM_CONTEXTS_MAX];
};

// Called for each interval that ends; may be NULL.
typedef void (*sim_log_fn)(void *arg, const struct sim_log_entry *entry);

// Moves the device's clock on to `to_ns` (a time past changes nothing).
void sim_device_advance(struct sim_device *device, uint64_t to_ns, sim_log_fn log, void *arg);
// Puts work at the end of a lane; returns its position.
uint64_t sim_device_submit(struct sim_device *device, uint32_t context, uint32_t lane, uint64_t cost_ns);
// What is submitted to the lane from now on waits until all lanes have done what is needed of them. 0, or
// -EAGAIN when the lane holds as many barriers as it can.
int sim_device_bar(struct sim_device *device, uint32_t context, uint32_t lane,
                   const uint64_t needed_ns[SIM_LANES_MAX]);
// When the lane will have done `position_ns` of work, if nobody submits more; UINT64_MAX for never (hung)
// and for more than a minute ahead.
uint64_t sim_device_when(const struct sim_device *device, uint32_t context, uint32_t lane,
                         uint64_t position_ns);
