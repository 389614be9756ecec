// takt status, takt top: what the daemon knows, once, and again and again.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"

static json_int_t number(json_t *object, const char *key)
{
        return json_integer_value(json_object_get(object, key));
}

static const char *string(json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "?";
}

static json_t *ask(void)
{
        int fd = cli_connect(cli_dir());
        json_t *answer = fd < 0 ? NULL : cli_ask(fd, json_pack("{s:s}", "op", "status"));

        if (fd >= 0)
                close(fd);
        return answer;
}

static void print_devices(json_t *answer)
{
        json_t *device;
        size_t i;

        json_array_foreach(json_object_get(answer, "devices"), i, device) printf(
                "GPU %zu %s: granted %.1f %%, idle %.1f %%, switching %.2f %%, %lld switches%s\n", i,
                string(device, "name"),
                100. * (double)number(device, "granted_ns") / (double)(number(device, "elapsed_ns") + 1),
                100. * (double)number(device, "idle_ns") / (double)(number(device, "elapsed_ns") + 1),
                100. * (double)number(device, "switch_ns") / (double)(number(device, "elapsed_ns") + 1),
                (long long)number(device, "switches"),
                json_is_true(json_object_get(device, "bypass")) ? "; BYPASS: first come, first served" : "");
}

static void print_tenants(json_t *answer)
{
        json_t *t, *device = json_array_get(json_object_get(answer, "devices"), 0);
        double elapsed = (double)number(device, "elapsed_ns") + 1;
        size_t i;

        printf("%-16s %-8s %5s %7s %7s %9s %9s %9s %8s %13s %8s\n", "TENANT", "CLASS", "STATE", "HELD",
               "BUSY", "WAIT p50", "WAIT p99", "REQUESTS", "STEPS", "MEMORY MiB", "OVERRUNS");
        json_array_foreach(json_object_get(answer, "tenants"), i, t)
                printf("%-16.16s %-8s %5s %6.1f%% %6.1f%% %7.2fms %7.2fms %9lld %8lld %6lld/%-6lld %8lld\n",
                       string(t, "name"), string(t, "class"),
                       json_is_true(json_object_get(t, "holds"))   ? "holds"
                       : json_is_true(json_object_get(t, "wants")) ? "waits"
                                                                   : "idle",
                       100 * (double)number(t, "granted_ns") / elapsed,
                       100 * (double)number(t, "busy_ns") / elapsed, (double)number(t, "wait_p50_ns") / 1e6,
                       (double)number(t, "wait_p99_ns") / 1e6, (long long)number(t, "requests"),
                       (long long)number(t, "steps"), (long long)number(t, "memory_used") >> 20,
                       (long long)number(t, "memory_quota") >> 20, (long long)number(t, "overruns"));
}

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
        json_t *answer;

        if (wrong)
                return wrong == 1 ? 0 : EXIT_USAGE;
        if (!(answer = ask()))
                return no_daemon();
        if (argc > 1) {
                json_dumpf(answer, stdout, JSON_COMPACT);
                putchar('\n');
        } else {
                print_devices(answer);
                print_tenants(answer);
        }
        json_decref(answer);
        return 0;
}

int cmd_top(int argc, char **argv)
{
        int wrong = wrong_usage(argc, argv, NULL,
                                "The same as `takt status`, every second; q and Enter, or Ctrl-C, ends it."),
            live = isatty(1);
        struct pollfd keys = {.fd = 0, .events = POLLIN};
        json_t *answer;
        char key;

        if (wrong)
                return wrong == 1 ? 0 : EXIT_USAGE;
        do {
                if (!(answer = ask()))
                        return no_daemon();
                if (live)
                        fputs("\033[H\033[2J", stdout);
                print_devices(answer);
                print_tenants(answer);
                fflush(stdout);
                json_decref(answer);
        } while (live && !(poll(&keys, 1, 1000) > 0 && (read(0, &key, 1) <= 0 || key == 'q')));
        return 0;
}
