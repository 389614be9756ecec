#include "kube/cgroup.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "kube/file.h"

// 8-4-4-4-12 hexadecimal digits, or the 32 of a static pod; underscores stand for dashes in systemd's names.
static size_t uid_at(const char *text, size_t size, char ret[CGROUP_POD_SIZE])
{
        size_t n = 0;

        while (n < size && n < CGROUP_POD_SIZE - 1 &&
               (isxdigit((unsigned char)text[n]) || text[n] == '-' || text[n] == '_')) {
                ret[n] = text[n] == '_' ? '-' : text[n];
                n++;
        }
        ret[n] = 0;
        return n == 36 || n == 32 ? n : 0;
}

// One folder of the path.
static int pod_in(const char *name, size_t size, char ret[CGROUP_POD_SIZE])
{
        size_t n, at = 0;

        for (size_t i = 0; i + 3 < size; i++) // the last "pod", as "kubepods-podUID.slice" has two
                if (!memcmp(name + i, "pod", 3) && (i == 0 || name[i - 1] == '-'))
                        at = i + 3;
        if (!at)
                return 0;
        n = uid_at(name + at, size - at, ret);
        return n && (at + n == size || (size - at - n == 6 && !memcmp(name + at + n, ".slice", 6)));
}

static int path_parse(const char *path, size_t size, char ret_pod[CGROUP_POD_SIZE], enum cgroup_qos *ret_qos)
{
        *ret_qos = memmem(path, size, "besteffort", 10) ? CGROUP_BEST_EFFORT
                   : memmem(path, size, "burstable", 9) ? CGROUP_BURSTABLE
                                                        : CGROUP_GUARANTEED;
        for (const char *at = path, *end = path + size; at < end;) {
                const char *slash = memchr(at, '/', (size_t)(end - at));
                size_t n = (size_t)((slash ? slash : end) - at);

                if (pod_in(at, n, ret_pod))
                        return 0;
                at += n + 1;
        }
        return -ENOENT;
}

int cgroup_parse(const char *text, size_t size, char ret_pod[CGROUP_POD_SIZE], enum cgroup_qos *ret_qos)
{
        for (const char *line = text, *end = text + size; line < end;) {
                const char *stop = memchr(line, '\n', (size_t)(end - line));
                const char *path;

                stop = stop ? stop : end;
                path = memchr(line, '/', (size_t)(stop - line));
                if (path && path_parse(path, (size_t)(stop - path), ret_pod, ret_qos) == 0)
                        return 0;
                line = stop + 1;
        }
        return -ENOENT;
}

// From when a process begins to end (PF_EXITING), the kernel names the root as its cgroup (version 1).
static int is_ending(pid_t pid)
{
        char path[32], text[512];
        const char *after;
        unsigned flags;

        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        if (file_read_whole(path, text, sizeof text) < 0 || !(after = strrchr(text, ')')))
                return 1;
        return sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1 || flags & 4;
}

int cgroup_of(pid_t pid, char ret_pod[CGROUP_POD_SIZE], enum cgroup_qos *ret_qos)
{
        char path[32], text[8192];
        int n;

        snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
        n = file_read_whole(path, text, sizeof text);
        return n < 0 || is_ending(pid) ? -ESRCH : cgroup_parse(text, (size_t)n, ret_pod, ret_qos);
}
