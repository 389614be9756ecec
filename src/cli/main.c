// takt: finds the subcommand.
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"

static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
        const char *about;
} commands[] = {
        {"run", cmd_run, "run an agent that shares the GPU under Takt"},
        {"status", cmd_status, "what each tenant holds, waited for and used"},
        {"top", cmd_top, "the same, live"},
        {"load", cmd_load, "open-loop user sessions against an OpenAI-compatible server"},
        {"advise", cmd_advise, "what a tenant really used, as the flags to declare"},
        {"doctor", cmd_doctor, "what is there, what is missing, what to do"},
};

static void usage(FILE *to)
{
        fputs("usage: takt COMMAND [OPTIONS]\n\n", to);
        for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
                fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].about);
        fputs("\ntakt COMMAND --help says more.\n", to);
}

int main(int argc, char **argv)
{
        if (argc > 1 && !strcmp(argv[1], "--version"))
                return puts("takt " TAKT_VERSION), 0;
        if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")))
                return usage(stdout), 0;
        for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
                if (!strcmp(argv[1], commands[i].name))
                        return commands[i].run(argc - 1, argv + 1);
        if (argc > 1)
                return cli_fail(EXIT_USAGE, "unknown command: %s (see takt --help)", argv[1]);
        return usage(stderr), EXIT_USAGE;
}
