// Which GPUs there are. NVML is asked in a child process: it is large, and somebody else's.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "node/node.h"

// "GPU-" or plain hexadecimal, with or without dashes.
static int parse_uuid(const char *text, uint8_t uuid[16])
{
        int n = 0;

        if (!strncmp(text, "GPU-", 4))
                text += 4;
        for (; *text && *text != ':' && n < 32; text++) {
                int digit = *text >= '0' && *text <= '9'   ? *text - '0'
                            : *text >= 'a' && *text <= 'f' ? *text - 'a' + 10
                            : *text >= 'A' && *text <= 'F' ? *text - 'A' + 10
                                                           : -1;

                if (*text == '-')
                        continue;
                if (digit < 0)
                        return -EINVAL;
                uuid[n / 2] = (uint8_t)(n % 2 ? uuid[n / 2] | digit : digit << 4);
                n++;
        }
        return n == 32 && *text == ':' ? 0 : -EINVAL;
}

void devices_uuid(const struct device *device, char ret_text[41])
{
        const uint8_t *u = device->uuid;

        snprintf(ret_text, 41, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
                 u[14], u[15]);
}

int devices_add(struct node *node, const char *text)
{
        struct device *device = &node->device[node->n_devices];
        const char *bytes = strchr(text, ':');
        char *end;

        if (node->n_devices == CORE_DEVICES_MAX)
                return -ENOSPC;
        if (parse_uuid(text, device->uuid) < 0 || bytes[1] < '0' || bytes[1] > '9')
                return -EINVAL;
        device->memory_bytes = strtoull(bytes + 1, &end, 10);
        if ((*end && *end != ' ') || !device->memory_bytes || device->memory_bytes > INT64_MAX)
                return -EINVAL;
        snprintf(device->name, sizeof device->name, "%s", *end ? end + 1 : "GPU");
        device->name[strcspn(device->name, "\n")] = 0;
        return (int)++node->n_devices;
}

// In the child: one line "UUID:BYTES name" a device; "!..." says why there is none.
static void list(FILE *out)
{
        void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
        int (*init)(void), (*count)(unsigned *), (*handle)(unsigned, void **), (*memory)(void *, uint64_t *);
        int (*uuid)(void *, char *, unsigned), (*name)(void *, char *, unsigned), error;
        const char *(*text)(int);
        unsigned n = 0;

        if (!nvml)
                return;
        init = (int (*)(void))dlsym(nvml, "nvmlInit_v2");
        count = (int (*)(unsigned *))dlsym(nvml, "nvmlDeviceGetCount_v2");
        handle = (int (*)(unsigned, void **))dlsym(nvml, "nvmlDeviceGetHandleByIndex_v2");
        memory = (int (*)(void *, uint64_t *))dlsym(nvml, "nvmlDeviceGetMemoryInfo");
        uuid = (int (*)(void *, char *, unsigned))dlsym(nvml, "nvmlDeviceGetUUID");
        name = (int (*)(void *, char *, unsigned))dlsym(nvml, "nvmlDeviceGetName");
        text = (const char *(*)(int))dlsym(nvml, "nvmlErrorString");
        if (!init || !count || !handle || !memory || !uuid || !name)
                return;
        if ((error = init()) || (error = count(&n)))
                fprintf(out, "!%s\n", text ? text(error) : "it does not say why");
        for (unsigned i = 0; i < n; i++) {
                uint64_t info[3];
                char id[96], called[96];
                void *device;

                if (!handle(i, &device) && !memory(device, info) && !uuid(device, id, sizeof id) &&
                    !name(device, called, sizeof called))
                        fprintf(out, "%s:%lu %s\n", id, info[0], called);
        }
}

// A child that NVML keeps cannot be ended, and must keep nothing of ours: not the lock, nor the ends of
// pipes.
static void be_child(int fd)
{
        int nowhere = open("/dev/null", O_RDWR);
        FILE *out;

        fd = fcntl(fd, F_DUPFD, 3);
        for (int i = 0; i < 3; i++)
                dup2(nowhere, i);
        dup2(fd, 3);
        close_range(4, ~0U, 0);
        out = fdopen(3, "w");
        setvbuf(out, NULL, _IOFBF, 65536); // told at once, when all of it is known
        list(out);
        fflush(out);
        _exit(0);
}

int devices_find(struct node *node)
{
        struct pollfd told = {.events = POLLIN};
        char line[256];
        int fds[2];
        FILE *in;
        pid_t child;

        if (pipe(fds) < 0)
                return -errno;
        child = fork();
        if (child < 0)
                return -errno;
        if (child == 0)
                be_child(fds[1]);
        close(fds[1]);
        told.fd = fds[0];
        if (poll(&told, 1, NODE_NVML_MS) == 0) {
                kill(child, SIGKILL);
                close(fds[0]);
                return -ETIMEDOUT;
        }
        in = fdopen(fds[0], "r");
        while (fgets(line, sizeof line, in))
                if (line[0] == '!')
                        fprintf(stderr, "taktd: NVML: %s", line + 1);
                else
                        devices_add(node, line);
        fclose(in);
        waitpid(child, NULL, 0);
        return (int)node->n_devices;
}

int devices_list(struct node *node)
{
        if (devices_find(node) == -ETIMEDOUT)
                fputs("taktd: " NODE_NVML_SILENT "\n", stderr);
        for (uint32_t d = 0; d < node->n_devices; d++)
                printf("%s, %.1f GiB\n", node->device[d].name,
                       (double)node->device[d].memory_bytes / (1 << 30));
        return node->n_devices ? 0 : 69;
}
