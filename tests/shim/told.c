// What NVML tells of the first device's memory, in both of its forms, to a program that is linked with it:
// total, free and used, in MiB.
#include <stdio.h>

struct memory {
        unsigned long long total, free, used;
};

struct memory_v2 {
        unsigned version;
        unsigned long long total, reserved, free, used;
};

int nvmlInit_v2(void);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory);
int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory_v2 *memory);

int main(void)
{
        struct memory_v2 second = {.version = sizeof second | 2u << 24};
        struct memory first;
        void *device;

        if (nvmlInit_v2() || nvmlDeviceGetHandleByIndex_v2(0, &device) ||
            nvmlDeviceGetMemoryInfo(device, &first) || nvmlDeviceGetMemoryInfo_v2(device, &second))
                return 1;
        printf("%llu %llu %llu, %llu %llu %llu\n", first.total >> 20, first.free >> 20, first.used >> 20,
               second.total >> 20, second.free >> 20, second.used >> 20);
        return 0;
}
