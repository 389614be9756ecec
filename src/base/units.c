#include "base/units.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct unit {
        const char *name;
        double factor;
};

static int with_unit(const char *text, const struct unit *units, double *ret)
{
        char *end;
        double value;

        if ((*text < '0' || *text > '9') && *text != '.') // strtod takes more for a number than people do
                return -EINVAL;
        value = strtod(text, &end);
        for (; units->name; units++)
                if (!strcmp(end, units->name)) {
                        *ret = value * units->factor;
                        return *ret >= 1 && *ret <= 1e18 ? 0 : -EINVAL; // nothing of it is no amount
                }
        return -EINVAL;
}

int takt_duration_parse(const char *text, uint64_t *ret_ns)
{
        static const struct unit units[] = {{"ns", 1},  {"us", 1e3}, {"ms", 1e6},
                                            {"s", 1e9}, {"m", 60e9}, {0}};
        double value;

        if (with_unit(text, units, &value) < 0 || value > 3600e9)
                return -EINVAL;
        *ret_ns = (uint64_t)value;
        return 0;
}

// Both as systems write it (GiB) and as Kubernetes does (Gi).
int takt_size_parse(const char *text, uint64_t *ret_bytes)
{
        static const struct unit units[] = {{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
                                            {"GB", 1e9},      {"MB", 1e6},      {"Gi", 1 << 30},
                                            {"Mi", 1 << 20},  {"Ki", 1 << 10},  {"G", 1e9},
                                            {"M", 1e6},       {"B", 1},         {0}};
        double value;

        if (with_unit(text, units, &value) < 0)
                return -EINVAL;
        *ret_bytes = (uint64_t)value;
        return 0;
}

int takt_percent_parse(const char *text, uint32_t *ret_ppm)
{
        static const struct unit units[] = {{"%", 1e4}, {0}};
        double value;

        if (with_unit(text, units, &value) < 0 || value > 1e6)
                return -EINVAL;
        *ret_ppm = (uint32_t)value;
        return 0;
}
