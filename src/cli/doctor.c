// takt doctor: what is there, what is missing, what to do.
#include <errno.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
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

// What taktd finds: it asks NVML in its own process.
static void gpus(void)
{
        char path[4300], line[160] = "", found[160] = "";
        FILE *in;

        cli_find(CLI_TAKTD, path, sizeof path);
        say(access(path, X_OK) == 0, "taktd", path, "build Takt, or reinstall it");
        if (setenv("TAKTD", path, 1) < 0 || !(in = popen("exec \"$TAKTD\" --list 2>/dev/null", "re")))
                return;
        for (int i = 0; fgets(line, sizeof line, in); i++)
                if (snprintf(found, sizeof found, "%d: %s", i, line) > 0)
                        say(1, "GPU", strtok(found, "\n"), "");
        pclose(in);
        if (!*found)
                say(0, "GPU", "",
                    "NVML names none: is the device there, and may this user open /dev/nvidia*?");
}

static void libraries(void)
{
        char path[4300];
        int there = shim_dir_find("libcuda.so.1", path, sizeof path) == 0;

        say(there, "CUDA driver", path,
            "install NVIDIA's driver, or put the simulated one on LD_LIBRARY_PATH");
        there = shim_dir_find("libnvidia-ml.so.1", path, sizeof path) == 0;
        say(there, "NVML", path, "comes with NVIDIA's driver; taktd --device UUID:BYTES does without");
        cli_find(CLI_SHIMS, path, sizeof path);
        strncat(path, "/libcuda.so.1", sizeof path - strlen(path) - 1);
        say(access(path, R_OK) == 0, "shim", path, "build Takt, or reinstall it");
}

static void the_kernel(void)
{
        long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
        int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

        say(commands > 0 && commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED, "membarrier(2)", "global, expedited",
            "needs Linux 4.16 or later");
        say(fd >= 0, "pidfd_open(2)", "yes", "needs Linux 5.3 or later");
        if (fd >= 0)
                close(fd);
}

// None is no fault: one is started. One that hangs, or that is another user's, is.
static void the_daemon(const char *dir)
{
        int error;
        json_t *answer = cli_status(dir, &error);

        if (error == -ENOENT || error == -ECONNREFUSED)
                printf("%-9s %-28s %s\n", "none", "daemon", cli_no_daemon(dir, error));
        else
                say(answer != NULL, "daemon", dir, cli_no_daemon(dir, error));
        json_decref(answer);
}

int cmd_doctor(int argc, char **argv)
{
        int code = cli_no_options(argc, argv, NULL,
                                  "Says what Takt finds on this machine, what is missing, and what to do.");
        const char *dir;

        if (code >= 0)
                return code;
        if (!(dir = cli_dir()))
                return EXIT_USAGE;
        libraries();
        gpus();
        the_kernel();
        the_daemon(dir);
        return missing ? 1 : 0;
}
