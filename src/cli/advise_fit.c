#include "cli/advise_fit.h"

#define PEAK_SPAN_NS 1.28e9

static double larger(double a, double b)
{
        return a > b ? a : b;
}

// How deep a bucket of that rate must be to allow every point.
static double depth_at(const struct advise_point *points, int n, double rate)
{
        double depth = 0;

        for (int i = 0; i < n; i++)
                depth = larger(depth, points[i].used_ns - rate * points[i].span_ns);
        return depth;
}

struct advise_buckets advise_fit(const struct advise_point *points, int n, double seen_ns)
{
        const struct advise_point *peak = points, *last = points;
        struct advise_buckets b;

        for (int i = 1; i < n && points[i].span_ns <= seen_ns; i++) {
                last = &points[i];
                if (last->span_ns <= PEAK_SPAN_NS)
                        peak = last;
        }
        n = (int)(last - points) + 1;
        b.share = last->used_ns / last->span_ns;
        b.peak = larger(b.share, peak->used_ns / peak->span_ns);
        b.burst_ns = depth_at(points, n, b.peak);
        b.depth_ns = larger(b.burst_ns, depth_at(points, n, b.share));
        return b;
}
