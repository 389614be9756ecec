#include "cli/cli.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int cli_fail(int code, const char *format, ...)
{
        va_list args;

        fputs("takt: ", stderr);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
        return code;
}

const char *cli_dir(void)
{
        static char dir[80];
        const char *given = getenv("TAKT_DIR"), *runtime = getenv("XDG_RUNTIME_DIR");

        if (given)
                return given;
        if (access("/run/takt/control", W_OK) == 0)
                return "/run/takt";
        if (runtime && strlen(runtime) < sizeof dir - 6)
                snprintf(dir, sizeof dir, "%s/takt", runtime);
        else
                snprintf(dir, sizeof dir, "/tmp/takt-%u", getuid());
        return dir;
}

const char *cli_home(void)
{
        static char path[4096];
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

        path[n > 0 ? n : 0] = 0;
        *strrchr(n > 0 ? path : strcpy(path, "./"), '/') = 0;
        return path;
}

int cli_connect(const char *dir)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        if ((size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s/control", dir) >=
            sizeof address.sun_path)
                return close(fd), -ENAMETOOLONG;
        if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
                int error = -errno;

                close(fd);
                return error;
        }
        return fd;
}

// Until the end of the line that the answer is.
static char *read_line(int fd)
{
        size_t size = 0, room = 4096;
        char *text = malloc(room);
        ssize_t n;

        while (text && (n = recv(fd, text + size, room - size - 1, 0)) > 0) {
                size += (size_t)n;
                text[size] = 0;
                if (text[size - 1] == '\n')
                        return text;
                if (room - size < 1024)
                        text = realloc(text, room *= 2);
        }
        free(text);
        return NULL;
}

json_t *cli_ask(int fd, json_t *request)
{
        char *text = json_dumps(request, JSON_COMPACT), *line = NULL;
        json_t *answer = NULL;

        json_decref(request);
        if (text && send(fd, text, strlen(text), MSG_NOSIGNAL) > 0 && send(fd, "\n", 1, MSG_NOSIGNAL) == 1)
                line = read_line(fd);
        if (line)
                answer = json_loads(line, 0, NULL);
        free(line);
        free(text);
        return answer;
}
