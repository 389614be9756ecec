#include "cli/cli.h"
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char *word; // that cli_option reads

// The word is kept, as getopt does not always say which it was: it stays before a cluster of letters (-xy),
// and goes past any other.
int cli_option(int argc, char **argv, const struct option *options)
{
        opterr = 0;
        word = argv[optind];
        return getopt_long(argc, argv, "+:", options, NULL);
}

int cli_wrong_option(int option, int error, char **argv)
{
        int length = (int)strcspn(word, "=");

        if (option == ':')
                return cli_fail(EXIT_USAGE, "%s needs a value (see takt %s --help)", word, argv[0]);
        if (option == '?' && optopt && word[1] == '-')
                return cli_fail(EXIT_USAGE, "%.*s takes no value (see takt %s --help)", length, word,
                                argv[0]);
        if (option == '?')
                return cli_fail(EXIT_USAGE, "unknown option: %s (see takt %s --help)", word, argv[0]);
        if (error)
                return cli_fail(EXIT_USAGE, "%.*s: %s is not a value for it (see takt %s --help)", length,
                                word, optarg, argv[0]);
        return 0;
}

int cli_no_options(int argc, char **argv, const char *flag, const char *about)
{
        for (int i = 1; i < argc; i++) {
                if (!strcmp(argv[i], "--help"))
                        return printf("usage: takt %s%s%s%s\n%s\n", argv[0], flag ? " [" : "",
                                      flag ? flag : "", flag ? "]" : "", about),
                               0;
                if (!flag || strcmp(argv[i], flag))
                        return cli_fail(EXIT_USAGE, "unknown option: %s (see takt %s --help)", argv[i],
                                        argv[0]);
        }
        return -1;
}

int cli_count(const char *text, uint64_t low, uint64_t high, uint64_t *ret)
{
        uint64_t value;
        char *end;

        if (*text < '0' || *text > '9') // strtoull takes more for a number than people do
                return -EINVAL;
        errno = 0;
        value = strtoull(text, &end, 10);
        if (*end || errno || value < low || value > high)
                return -EINVAL;
        *ret = value;
        return 0;
}

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

        if (given && *given && *given != '/') // whoever changes folders would look for it elsewhere
                return cli_fail(EXIT_USAGE, "TAKT_DIR: %s does not begin with /", given), NULL;
        if (given && strlen(given) >= sizeof dir)
                return cli_fail(EXIT_USAGE, "TAKT_DIR: %s is longer than %zu bytes", given, sizeof dir - 1),
                       NULL;
        if (given && *given)
                return given;
        if (access(CLI_SYSTEM_DIR "/control", W_OK) == 0)
                return CLI_SYSTEM_DIR;
        if (runtime && *runtime == '/' && strlen(runtime) < sizeof dir - 6)
                snprintf(dir, sizeof dir, "%s/takt", runtime);
        else
                snprintf(dir, sizeof dir, "/tmp/takt-%u", getuid());
        return dir;
}

// The folder of takt's own executable.
static const char *home(void)
{
        static char path[4096];
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

        path[n > 0 ? n : 0] = 0;
        *strrchr(n > 0 ? path : strcpy(path, "./"), '/') = 0;
        return path;
}

void cli_find(enum cli_part part, char *path, size_t size)
{
        static const struct {
                const char *built, *installed;
        } places[] = {[CLI_TAKTD] = {"../node/taktd", "taktd"},
                      [CLI_SHIMS] = {"../shim", "../lib/takt"},
                      [CLI_LOAD] = {"takt-load.so", "../lib/takt/takt-load.so"}};

        snprintf(path, size, "%s/%s", home(), places[part].built);
        if (access(path, F_OK) < 0)
                snprintf(path, size, "%s/%s", home(), places[part].installed);
}

// What a daemon says of folders and libraries is believed: it must be root's or our own.
static int trusted(int fd)
{
        struct ucred peer;
        socklen_t size = sizeof peer;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return -errno;
        return peer.uid == 0 || peer.uid == geteuid() ? 0 : -EPERM;
}

int cli_connect(const char *dir)
{
        const struct timeval patience = {.tv_sec = CLI_PATIENCE_S};
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

        if (fd < 0)
                return -errno;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if ((size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s/control", dir) >=
            sizeof address.sun_path)
                error = -ENAMETOOLONG;
        else if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
                error = -errno;
        else
                error = trusted(fd);
        if (error < 0) {
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
        size_t size = text ? strlen(text) : 0;
        json_t *answer = NULL;

        json_decref(request);
        if (text)
                text[size] = '\n'; // in place of the end: what is sent is counted
        if (text && send(fd, text, size + 1, MSG_NOSIGNAL) == (ssize_t)size + 1)
                line = read_line(fd);
        if (line)
                answer = json_loads(line, 0, NULL);
        free(line);
        free(text);
        return answer;
}

int cli_has_socket(const char *dir)
{
        char path[128];

        snprintf(path, sizeof path, "%s/control", dir);
        return access(path, F_OK) == 0;
}

json_t *cli_status(const char *dir, int *ret_error)
{
        int fd = cli_connect(dir);
        json_t *answer = fd < 0 ? NULL : cli_ask(fd, json_pack("{s:s}", "op", "status"));

        // A user's daemon ends with its last tenant, perhaps just now: then there is none.
        *ret_error = fd < 0 ? fd : answer ? 0 : cli_has_socket(dir) ? -ETIMEDOUT : -ENOENT;
        if (fd >= 0)
                close(fd);
        return answer;
}

const char *cli_no_daemon(const char *dir, int error)
{
        if (error == -ETIMEDOUT)
                return "it does not answer; end it, and `takt run` starts another";
        if (error == -EPERM)
                return "it is another user's; set TAKT_DIR";
        if (error != -ENOENT && error != -ECONNREFUSED)
                return strerror(-error);
        return strcmp(dir, CLI_SYSTEM_DIR) ? "none is there; `takt run` starts one"
                                           : "none is there; it is the system's to start (taktd.service)";
}

int cli_fail_no_daemon(const char *dir, int error)
{
        return cli_fail(EXIT_NOT_THERE, "no daemon answers in %s: %s", dir, cli_no_daemon(dir, error));
}

json_t *cli_status_or_say(int *ret_code)
{
        const char *dir = cli_dir();
        json_t *answer = NULL;
        int error;

        *ret_code = EXIT_USAGE;
        if (dir && !(answer = cli_status(dir, &error)))
                *ret_code = cli_fail_no_daemon(dir, error);
        return answer;
}
