#include "agent.h"
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "cli/cli.h"

static char dir[] = "/tmp/takt-bench-XXXXXX";
static const uint8_t uuid[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

pid_t agent_daemon(void)
{
        const char *taktd = getenv("TAKT_TAKTD");
        char fd[16], byte;
        int ready[2];
        pid_t pid;

        if (!taktd || !mkdtemp(dir) || pipe(ready) < 0)
                return -1;
        pid = fork();
        if (pid == 0) {
                snprintf(fd, sizeof fd, "%d", ready[1]);
                execl(taktd, "taktd", "--dir", dir, "--device", "01010101010101010101010101010101:1073741824",
                      "--ready", fd, (char *)NULL);
                _exit(127);
        }
        close(ready[1]);
        if (read(ready[0], &byte, 1) != 1)
                return -1;
        close(ready[0]);
        return pid;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
        (void)info;
        (void)kind;
        (void)where;
        return remove(path);
}

void agent_end(pid_t daemon)
{
        kill(daemon, SIGTERM);
        waitpid(daemon, NULL, 0);
        nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS); // tenants' folders outlive it
}

int agent_join(const char *name)
{
        int control = cli_connect(dir);
        json_t *answer = control < 0 ? NULL
                                     : cli_ask(control, json_pack("{s:s,s:s,s:s}", "op", "register", "name",
                                                                  name, "class", "fair"));
        const char *join = json_string_value(json_object_get(answer, "join"));
        const char *requests = json_string_value(json_object_get(answer, "requests"));

        if (!join || !requests)
                return -1;
        setenv("TAKT_SOCKET", join, 1);
        setenv("TAKT_REQUESTS", requests, 1);
        json_decref(answer);
        return lease_join(uuid, 1, takt_clock_now());
}
