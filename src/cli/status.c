// takt status, takt top: what the daemon knows, once, and again and again.
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/view.h"

static json_t *ask(void)
{
        int fd = cli_connect(cli_dir());
        json_t *answer = fd < 0 ? NULL : cli_ask(fd, json_pack("{s:s}", "op", "status"));

        if (fd >= 0)
                close(fd);
        return answer;
}

// The one flag that a command may have; 1: --help was asked for, 2: something else that there is not.
static int wrong_usage(int argc, char **argv, const char *flag, const char *about)
{
        for (int i = 1; i < argc; i++) {
                if (!strcmp(argv[i], "--help"))
                        return printf("usage: takt %s%s%s%s\n%s\n", argv[0], flag ? " [" : "",
                                      flag ? flag : "", flag ? "]" : "", about),
                               1;
                if (!flag || strcmp(argv[i], flag))
                        return cli_fail(EXIT_USAGE, "unknown option: %s (see takt %s --help)", argv[i],
                                        argv[0]),
                               2;
        }
        return 0;
}

static int no_daemon(void)
{
        return cli_fail(EXIT_NOT_THERE, "no daemon answers in %s; `takt run` starts one", cli_dir());
}

int cmd_status(int argc, char **argv)
{
        int wrong = wrong_usage(argc, argv, "--json", "What each tenant holds, waited for and used.");
        const struct view view = {.out = stdout, .line_end = "\n"};
        json_t *answer;

        if (wrong)
                return wrong == 1 ? 0 : EXIT_USAGE;
        if (!(answer = ask()))
                return no_daemon();
        if (argc > 1) {
                json_dumpf(answer, stdout, JSON_COMPACT);
                putchar('\n');
        } else
                view_print(&view, answer, NULL);
        json_decref(answer);
        return 0;
}

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
        (void)signal;
        stopped = 1;
}

// A second, unless a key ends it: q, or the end of the input.
static int is_over(void)
{
        struct pollfd keys = {.fd = 0, .events = POLLIN};
        char key = 0;

        return (poll(&keys, 1, 1000) > 0 && (read(0, &key, 1) <= 0 || key == 'q')) || stopped;
}

// Over the last picture, so that nothing flickers; what is left of that is wiped away line by line.
static int live(void)
{
        json_t *before = NULL, *now;
        struct winsize size;
        int gone = 0;

        fputs("\033[H\033[2J", stdout);
        do {
                struct view view = {.out = stdout, .line_end = "\033[K\n"};

                now = ask();
                gone = !now;
                if (gone)
                        break;
                if (ioctl(1, TIOCGWINSZ, &size) == 0)
                        view.width = size.ws_col;
                printf("\033[H%s; q ends\033[K\n", before ? "The last second" : "Since the daemon started");
                view_print(&view, now, before);
                fputs("\033[J", stdout);
                fflush(stdout);
                json_decref(before);
                before = now;
        } while (!is_over());
        json_decref(before);
        return gone ? no_daemon() : 0;
}

int cmd_top(int argc, char **argv)
{
        int wrong = wrong_usage(
                    argc, argv, NULL,
                    "What `takt status` tells, of the last second, every second; q or Ctrl-C ends it."),
            code;
        struct sigaction act = {.sa_handler = stop};
        struct termios old, keys;
        int has_keys = tcgetattr(0, &old) == 0;

        if (wrong)
                return wrong == 1 ? 0 : EXIT_USAGE;
        if (!isatty(1))
                return cmd_status(1, argv);
        sigaction(SIGINT, &act, NULL);
        sigaction(SIGTERM, &act, NULL);
        if (has_keys) {
                keys = old;
                keys.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
                tcsetattr(0, TCSANOW, &keys);
        }
        code = live();
        if (has_keys)
                tcsetattr(0, TCSANOW, &old);
        return code;
}
