// An NVML with one GPU that does what the file named by TEST_NVML says in its first word: well, gone, hang,
// reset (its driver asks for one), end (the process that asks dies). Which processes use it the file of that
// name and .pids says, and .asked has a byte for each time that it was asked for them.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))

static char mood[16];

static int is(const char *word)
{
        const char *path = getenv("TEST_NVML");
        FILE *file = fopen(path ? path : "", "r");

        mood[0] = 0;
        if (!file || fscanf(file, "%15s", mood) != 1)
                mood[0] = 0;
        if (file)
                fclose(file);
        return !strcmp(mood, word);
}

API int nvmlInit_v2(void);
API int nvmlInit_v2(void)
{
        return 0;
}

API int nvmlShutdown(void);
API int nvmlShutdown(void)
{
        return 0;
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, void **ret);
API int nvmlDeviceGetHandleByUUID(const char *uuid, void **ret)
{
        *ret = mood;
        return strncmp(uuid, "GPU-00010203", 12) ? 6 : 0;
}

API int nvmlDeviceGetMemoryInfo(void *device, uint64_t info[3]);
API int nvmlDeviceGetMemoryInfo(void *device, uint64_t info[3])
{
        (void)device, (void)info;
        puts("words that nobody asked for");
        while (is("hang"))
                pause();
        if (is("end")) {
                fputs("NVML ends\n", stderr);
                _exit(1);
        }
        return is("gone") ? 15 : 0;
}

API int nvmlEventSetCreate(void **set);
API int nvmlEventSetCreate(void **set)
{
        *set = mood;
        return 0;
}

API int nvmlEventSetFree(void *set);
API int nvmlEventSetFree(void *set)
{
        (void)set;
        return 0;
}

API int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set);
API int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set)
{
        (void)device, (void)types, (void)set;
        return 0;
}

// Shorter than it is told, so that tests are.
API int nvmlEventSetWait_v2(void *set, void *event, unsigned timeout_ms);
API int nvmlEventSetWait_v2(void *set, void *event, unsigned timeout_ms)
{
        (void)set, (void)event;
        usleep(timeout_ms ? 100000 : 0);
        return 10;
}

struct field {
        unsigned id, scope;
        long long timestamp, latency;
        unsigned type;
        int error;
        unsigned long long value;
};

API int nvmlDeviceGetFieldValues(void *device, int n, struct field *field);
API int nvmlDeviceGetFieldValues(void *device, int n, struct field *field)
{
        (void)device, (void)n;
        field->error = field->id == 230 ? 0 : 3;
        field->value = (unsigned long long)is("reset");
        return 0;
}

static FILE *beside(const char *end, const char *mode)
{
        const char *path = getenv("TEST_NVML");
        char name[256];

        snprintf(name, sizeof name, "%s%s", path ? path : "", end);
        return path ? fopen(name, mode) : NULL;
}

struct process {
        unsigned pid;
        unsigned long long bytes;
        unsigned instance, compute_instance;
};

API int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *n, struct process *ret);
API int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *n, struct process *ret)
{
        FILE *file = beside(".asked", "a");
        unsigned pid, n_there = 0, room = *n;

        (void)device;
        if (file) {
                fputc('.', file);
                fclose(file);
        }
        file = beside(".pids", "r");
        for (; file && fscanf(file, "%u", &pid) == 1; n_there++)
                if (n_there < room)
                        ret[n_there] = (struct process){.pid = pid, .bytes = UINT64_C(1) << 30};
        if (file)
                fclose(file);
        *n = n_there;
        return n_there > room ? 7 : 0;
}

API const char *nvmlErrorString(int error);
API const char *nvmlErrorString(int error)
{
        return error == 15 ? "GPU is lost" : "Not Found";
}
