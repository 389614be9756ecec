// What every bench shares: a table for people or JSON for machines, and bounds that fail the run.
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bench {
        const char *name;
        int json, n_rows, broken;
};

// Reads --json and --help; anything else is wrong usage and ends the program. Returns 0, or 1 when help was
// printed.
static inline int bench_init(struct bench *bench, const char *name, const char *about, int argc, char **argv)
{
        *bench = (struct bench){.name = name};
        for (int i = 1; i < argc; i++) {
                if (!strcmp(argv[i], "--help"))
                        return printf("bench %s [--json]: %s\n", name, about), 1;
                if (strcmp(argv[i], "--json")) {
                        fprintf(stderr, "bench %s: unknown option: %s (there is --json)\n", name, argv[i]);
                        exit(2);
                }
                bench->json = 1;
        }
        if (bench->json)
                printf("{\"bench\":\"%s\",\"rows\":[", name);
        else
                printf("%s: %s\n%-58s %12s %12s\n", name, about, "", "measured", "bound");
        return 0;
}

// One figure that must be at most `bound`; a negative bound means that it is only shown.
static inline void bench_row(struct bench *bench, const char *what, double value, double bound,
                             const char *unit)
{
        int broken = bound >= 0 && !(value <= bound);

        bench->broken += broken;
        if (bench->json)
                printf("%s{\"what\":\"%s\",\"value\":%g,\"bound\":%g,\"unit\":\"%s\",\"broken\":%s}",
                       bench->n_rows ? "," : "", what, value, bound, unit, broken ? "true" : "false");
        else if (bound < 0)
                printf("%-58s %9.5g %s\n", what, value, unit);
        else
                printf("%-58s %9.5g %-2s <= %8.5g%s\n", what, value, unit, bound, broken ? "  BROKEN" : "");
        bench->n_rows++;
}

// A figure that cannot be had here, and why.
static inline void bench_skip(struct bench *bench, const char *what, const char *why)
{
        if (bench->json)
                printf("%s{\"what\":\"%s\",\"skip\":\"%s\"}", bench->n_rows ? "," : "", what, why);
        else
                printf("%-58s SKIP: %s\n", what, why);
        bench->n_rows++;
}

// Returns the exit code: 1 when a bound is broken.
static inline int bench_end(struct bench *bench)
{
        if (bench->json)
                printf("],\"broken\":%d}\n", bench->broken);
        else if (bench->broken)
                printf("%d bounds broken\n", bench->broken);
        return bench->broken > 0;
}
