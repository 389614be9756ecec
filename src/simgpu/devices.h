// Which devices this process sees, and what each is called. The driver and NVML number them alike.
#pragma once
#include "simgpu/segment.h"

#define SIM_FIRST_BUS 7 // of PCI: where the first device is; each of the others is one further

// Opens them all; returns how many, or 0 with errno set.
uint32_t sim_devices_open(struct sim_segment *ret[SIM_DEVICES_MAX]);
void sim_devices_uuid(uint32_t device, unsigned char ret[16]);
// The device at a PCI address, with or without the domain before it; -1: none.
int sim_devices_at(const char *address);
