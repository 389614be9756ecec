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

int cmd_status(int argc, char **argv)
{
        int code = cli_no_options(argc, argv, "--json", "What each tenant holds, waited for and used.");
        const struct view view = {.out = stdout, .line_end = "\n"};
        json_t *answer;

        if (code >= 0)
                return code;
        if (!(answer = cli_status_or_say(&code)))
                return code;
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
static int live(const char *dir)
{
        json_t *before = NULL, *now;
        struct winsize size;
        int error = 0;

        fputs("\033[H\033[2J", stdout);
        do {
                struct view view = {.out = stdout, .line_end = "\033[K\n"};

                now = cli_status(dir, &error);
                if (!now)
                        break;
                if (ioctl(1, TIOCGWINSZ, &size) == 0) {
                        view.width = size.ws_col;
                        // Below the heading, and above the line where the cursor waits.
                        view.height = size.ws_row > 5 ? size.ws_row - 2 : size.ws_row ? 3 : 0;
                }
                printf("\033[H%s; q ends\033[K\n", before ? "The last second" : "Since the daemon started");
                view_print(&view, now, before);
                fputs("\033[J", stdout);
                fflush(stdout);
                json_decref(before);
                before = now;
        } while (!is_over());
        json_decref(before);
        return error ? cli_fail_no_daemon(dir, error) : 0;
}

int cmd_top(int argc, char **argv)
{
        int code = cli_no_options(argc, argv, NULL,
                                  "What `takt status` tells, every second, of the last second; state, memory "
                                  "and class as of now.\n"
                                  "q or Ctrl-C ends it.");
        struct sigaction act = {.sa_handler = stop};
        struct termios old, keys;
        int has_keys = tcgetattr(0, &old) == 0;
        const char *dir;

        if (code >= 0)
                return code;
        if (!isatty(1))
                return cmd_status(1, argv);
        if (!(dir = cli_dir()))
                return EXIT_USAGE;
        sigaction(SIGINT, &act, NULL);
        sigaction(SIGTERM, &act, NULL);
        if (has_keys) {
                keys = old;
                keys.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
                tcsetattr(0, TCSANOW, &keys);
        }
        code = live(dir);
        if (has_keys)
                tcsetattr(0, TCSANOW, &old);
        return code;
}
