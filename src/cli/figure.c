#include "cli/figure.h"
#include <errno.h>
#include <stdlib.h>

int figure_add(struct figure *f, uint64_t ns, uint64_t objective_ns)
{
        size_t room = f->room ? 2 * f->room : 64;
        double *ms = f->n < f->room ? f->ms : realloc(f->ms, room * sizeof *ms);

        if (!ms)
                return -ENOMEM;
        f->room = f->n < f->room ? f->room : room;
        f->ms = ms;
        f->ms[f->n++] = (double)ns / 1e6;
        f->sum_ms += (double)ns / 1e6;
        f->late += objective_ns && ns > objective_ns;
        return 0;
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

void figure_sort(struct figure *f)
{
        if (f->n)
                qsort(f->ms, f->n, sizeof *f->ms, by_value);
}

double figure_at(const struct figure *f, unsigned permille)
{
        size_t rank = (f->n * permille + 999) / 1000;

        return f->n ? f->ms[rank ? rank - 1 : 0] : 0;
}

double figure_mean(const struct figure *f)
{
        return f->n ? f->sum_ms / (double)f->n : 0;
}

double figure_jitter(const struct figure *f)
{
        double p50 = figure_at(f, 500);

        return p50 > 0 ? figure_at(f, 990) / p50 : 0;
}

void figure_deinit(struct figure *f)
{
        free(f->ms);
        *f = (struct figure){0};
}
