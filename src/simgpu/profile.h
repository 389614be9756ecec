// What the simulated device is told of itself: the environment, and under it a profile, the file named by
// SIMGPU_PROFILE.
//
// A profile has lines KEY=VALUE with the names of the environment's variables (settings.h); lines that begin
// with # are comments. What both name, the environment decides.
#pragma once

// The value of a setting, or NULL.
const char *sim_setting(const char *name);
// The profile's first fault; "" for none. Standard error is told of all.
const char *sim_profile_refused(void);
