#include "simgpu/devices.h"
#include <stdlib.h>
#include <string.h>

uint32_t sim_devices_open(struct sim_segment *ret[SIM_DEVICES_MAX])
{
        uint32_t n = 0;

        do {
                if (!ret[n] && !(ret[n] = sim_segment_open(n)))
                        return 0;
        } while (++n < sim_devices());
        return n;
}

void sim_devices_uuid(uint32_t device, unsigned char uuid[16])
{
        const char *name = sim_segment_name(device);

        memcpy(uuid, "SIMGPU\x40\x00\x80\x00", 10);
        memset(uuid + 10, 0, 6);
        for (int i = 0; name[i]; i++)
                uuid[10 + i % 6] = (unsigned char)(uuid[10 + i % 6] * 31 + name[i]);
}

// DOMAIN:BUS:DEVICE.FUNCTION, in hexadecimal
int sim_devices_at(const char *address)
{
        const char *first = strchr(address, ':'), *last = strrchr(address, ':');
        unsigned long number = strtoul(first < last ? first + 1 : address, NULL, 16);

        return last && number >= SIM_FIRST_BUS && number < SIM_FIRST_BUS + sim_devices()
                       ? (int)number - SIM_FIRST_BUS
                       : -1;
}
