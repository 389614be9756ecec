// takt advise: what each tenant really used, as the flags to declare.
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "cli/advise_fit.h"
#include "cli/cli.h"
#include "cli/view.h"

#define WITH_MARGIN(x) ((x)*11 / 10) // what was seen is not all that can be
#define POINTS_MAX 32
#define LITTLE_NS 60e9 // watched for less than that, a tenant may not have shown all it does

static double number(json_t *object, const char *key)
{
        return json_number_value(json_object_get(object, key));
}

static int points_of(json_t *curve, struct advise_point points[POINTS_MAX])
{
        int n = (int)json_array_size(curve);

        n = n < POINTS_MAX ? n : POINTS_MAX;
        for (int i = 0; i < n; i++) {
                json_t *point = json_array_get(curve, (size_t)i);

                points[i] = (struct advise_point){json_number_value(json_array_get(point, 0)),
                                                  json_number_value(json_array_get(point, 1))};
        }
        return n;
}

// Rounded up with the margin; a percentage at most the whole device.
static double percent(double part)
{
        return fmin(100, ceil(WITH_MARGIN(100 * part)));
}

static double ms(double ns)
{
        return fmax(1, ceil(WITH_MARGIN(ns) / 1e6));
}

// What `takt run` takes of such a class; a longer step than 900 ms it takes of nobody.
static void print_flags(json_t *tenant, const char *class, const struct advise_buckets *b)
{
        double memory = number(json_object_get(tenant, "used"), "memory_max");

        if (!strcmp(class, "idle"))
                printf(" --class idle"); // fair is the default
        if (b && !strcmp(class, "deadline"))
                printf(" --share %.0f%% --peak %.0f%% --burst %.0fms --depth %.0fms", percent(b->share),
                       percent(b->peak), ms(b->burst_ns), ms(b->depth_ns));
        if (b && number(tenant, "steps") > 0)
                printf(" --step %.0fms", fmin(900, ms(number(tenant, "step_ns"))));
        if (memory > 0)
                printf(" --memory %.0fMiB", ceil(WITH_MARGIN(memory) / (1 << 20)));
}

static void advise(json_t *tenant)
{
        json_t *used = json_object_get(tenant, "used");
        const char *name = json_string_value(json_object_get(tenant, "name"));
        const char *promised = json_string_value(json_object_get(tenant, "promised"));
        const char *class = promised ? promised : "deadline";
        double seen_ns = number(used, "seen_ns");
        struct advise_point points[POINTS_MAX];
        char shown[128];
        int n = points_of(json_object_get(used, "curve"), points), has_used = seen_ns > 0 && n;
        struct advise_buckets b = has_used ? advise_fit(points, n, seen_ns) : (struct advise_buckets){0};

        view_name(name ? name : "?", 0, shown, sizeof shown);
        printf("%s:", shown);
        print_flags(tenant, class, has_used ? &b : NULL);
        if (!has_used) {
                puts("   # has used no device time yet");
                return;
        }
        printf("   # used %.1f %% of %.0f s%s; gap %.2f ms", 100 * number(used, "total_ns") / seen_ns,
               seen_ns / 1e9, seen_ns < LITTLE_NS ? " (watch it longer)" : "",
               number(tenant, "gap_ns") / 1e6);
        if (strcmp(class, "deadline")) // which may not declare them, but may become one that does
                printf("; share %.0f%%, peak %.0f%%, burst %.0fms, depth %.0fms", percent(b.share),
                       percent(b.peak), ms(b.burst_ns), ms(b.depth_ns));
        putchar('\n');
}

int cmd_advise(int argc, char **argv)
{
        int code = cli_no_options(argc, argv, NULL, "What each tenant really used, as the flags to declare.");
        json_t *answer, *tenant;
        size_t i;

        if (code >= 0)
                return code;
        if (!(answer = cli_status_or_say(&code)))
                return code;
        json_array_foreach(json_object_get(answer, "tenants"), i, tenant) advise(tenant);
        json_decref(answer);
        return 0;
}
