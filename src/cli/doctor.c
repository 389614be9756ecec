// takt doctor: what is there, what is missing, what to do.
#include <linux/membarrier.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/shimdir.h"

static int missing;

static void say(int there, const char *what, const char *found, const char *remedy)
{
        printf("%-9s %-28s %s\n", there ? "ok" : "MISSING", what, there ? found : remedy);
        missing += !there;
}

int cmd_doctor(int argc, char **argv)
{
        char path[4300];
        long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
        int fd, there;

        if (argc > 1)
                return printf("usage: takt %s\nSays what Takt finds on this machine, what is missing, and "
                              "what to do.\n",
                              argv[0]),
                       strcmp(argv[1], "--help") ? EXIT_USAGE : 0;
        there = shim_dir_find("libcuda.so.1", path, sizeof path) == 0;
        say(there, "CUDA driver", path,
            "install NVIDIA's driver, or put the simulated one on LD_LIBRARY_PATH");
        there = shim_dir_find("libnvidia-ml.so.1", path, sizeof path) == 0;
        say(there, "NVML", path, "comes with NVIDIA's driver; taktd --device UUID:BYTES does without");
        snprintf(path, sizeof path, "%s/../shim/libcuda.so.1", cli_home());
        if (access(path, R_OK) < 0)
                snprintf(path, sizeof path, "%s/../lib/takt/libcuda.so.1", cli_home());
        say(access(path, R_OK) == 0, "shim", path, "build Takt, or reinstall it");
        say(commands > 0 && commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED, "membarrier(2)", "global, expedited",
            "needs Linux 4.16 or later");
        fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
        say(fd >= 0, "pidfd_open(2)", "yes", "needs Linux 5.3 or later");
        if (fd >= 0)
                close(fd);
        fd = cli_connect(cli_dir());
        printf("%-9s %-28s %s\n", fd >= 0 ? "ok" : "none", "daemon",
               fd >= 0 ? cli_dir() : "`takt run` starts one");
        if (fd >= 0)
                close(fd);
        return missing ? 1 : 0;
}
