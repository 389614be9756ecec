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

        snprintf(path, sizeof path, "%s/../node/taktd", cli_home());
        if (access(path, X_OK) < 0)
                snprintf(path, sizeof path, "%s/taktd", cli_home());
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
        snprintf(path, sizeof path, "%s/../shim/libcuda.so.1", cli_home());
        if (access(path, R_OK) < 0)
                snprintf(path, sizeof path, "%s/../lib/takt/libcuda.so.1", cli_home());
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
static void the_daemon(void)
{
        const char *dir = cli_dir();
        int fd = cli_connect(dir);
        json_t *answer;

        if (fd == -ENOENT || fd == -ECONNREFUSED) {
                printf("%-9s %-28s %s\n", "none", "daemon", "`takt run` starts one");
                return;
        }
        if (fd < 0) {
                say(0, "daemon", "",
                    fd == -EPERM ? "the one there is another user's; set TAKT_DIR" : strerror(-fd));
                return;
        }
        answer = cli_ask(fd, json_pack("{s:s}", "op", "status"));
        say(answer != NULL, "daemon", dir, "it does not answer; end it, and `takt run` starts another");
        json_decref(answer);
        close(fd);
}

int cmd_doctor(int argc, char **argv)
{
        if (argc > 1 && !strcmp(argv[1], "--help"))
                return puts("usage: takt doctor\nSays what Takt finds on this machine, what is missing, and "
                            "what "
                            "to do."),
                       0;
        if (argc > 1)
                return cli_fail(EXIT_USAGE, "unknown option: %s (see takt doctor --help)", argv[1]);
        libraries();
        gpus();
        the_kernel();
        the_daemon();
        return missing ? 1 : 0;
}
