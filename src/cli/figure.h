// One figure over many answers: mean, percentiles, jitter, and how many were late.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct figure {
        double *ms; // sorted by figure_sort
        size_t n, room, late;
        double sum_ms;
};

// objective_ns: what is longer is late; 0: nothing is. 0 or -ENOMEM.
int figure_add(struct figure *figure, uint64_t ns, uint64_t objective_ns);
void figure_sort(struct figure *figure);
// The smallest value that at least permille/1000 of all do not exceed (nearest rank), in ms; 0 when empty. Of
// a sorted figure.
double figure_at(const struct figure *figure, unsigned permille);
double figure_mean(const struct figure *figure);
// p99 as a multiple of p50; 0 when there is none.
double figure_jitter(const struct figure *figure);
void figure_deinit(struct figure *figure);
