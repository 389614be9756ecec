// Work of an asked length on the GPU at hand, through the CUDA driver's API alone.
//
// The kernel does a fixed amount of arithmetic a block and looks at no clock. A kernel that spun until a
// clock says so would be credited with the time in which it was switched away, and any sharing would look
// free. So length is a number of waves (each fills the device once), and how long a wave takes is measured by
// events on the device itself. That asks nothing of the device but that twice the work takes longer.
#pragma once
#include <stdint.h>

// What a launch takes: launch_ns, and wave_ns more for each wave.
struct gpu_cost {
        double launch_ns, wave_ns;
};

// All return 0 or the driver's own error, which is positive; GPU_ABSENT: there is no driver, or it lacks a
// function; GPU_UNEVEN: more work does not take longer, so that no length can be asked for.
#define GPU_ABSENT (-1)
#define GPU_UNEVEN (-2)

// Opens the first device. Once a process; the thread that opens is the one that works.
int gpu_open(void);
uint64_t gpu_memory_bytes(void);
int gpu_driver_version(void);
// Measures what a launch takes, for about half a second; the device should have nothing else to do meanwhile.
int gpu_calibrate(struct gpu_cost *ret);
void gpu_use(struct gpu_cost cost);

// Starts n launches, at least one, that take ns together: to within half a wave, or as long as n launches of
// a wave each.
int gpu_launch(double ns, unsigned n);
// What that comes to.
double gpu_length_ns(double ns, unsigned n);
// Starts what gpu_launch(ns, n) would, as one graph, made at the first call; up to 8 different ones a
// process.
int gpu_launch_graph(double ns, unsigned n);
int gpu_wait(void);

// Marks lie in a ring of GPU_MARKS: behind what was started so far; waiting for one.
#define GPU_MARKS 64
int gpu_mark(unsigned i);
int gpu_wait_mark(unsigned i);
