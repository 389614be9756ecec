// What the simulated device is told of itself: the environment, and under it a profile, the file named by
// SIMGPU_PROFILE.
//
// A profile has lines KEY=VALUE with the names of the environment's variables; lines that begin with # are
// comments. What both name, the environment decides.
#pragma once

// The value of a setting, or NULL.
const char *sim_setting(const char *name);
// 0, or -EINVAL when a profile is named that cannot be read (standard error says why): then there is no
// device, for times of another device than the one asked for would be worse than none.
int sim_profile_check(void);
// The version of CUDA that the driver claims, as cuDriverGetVersion says it: 13000 for 13.0.
int sim_driver_version(void);
