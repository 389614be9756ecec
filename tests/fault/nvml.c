// An NVML that may not open its devices, or (SILENT_NVML is set) gives no answer and holds what it has.
#include <stdlib.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define ANSWERS(name)                                                                                        \
        API int name(void);                                                                                  \
        int name(void)                                                                                       \
        {                                                                                                    \
                return 4;                                                                                    \
        }

API int nvmlInit_v2(void);
int nvmlInit_v2(void)
{
        while (getenv("SILENT_NVML"))
                pause();
        return 4;
}

API const char *nvmlErrorString(int error);
const char *nvmlErrorString(int error)
{
        return error == 4 ? "Insufficient Permissions" : "another";
}

ANSWERS(nvmlDeviceGetCount_v2)
ANSWERS(nvmlDeviceGetHandleByIndex_v2)
ANSWERS(nvmlDeviceGetMemoryInfo)
ANSWERS(nvmlDeviceGetUUID)
ANSWERS(nvmlDeviceGetName)
