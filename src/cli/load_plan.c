#include "cli/load_plan.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "base/random.h"

int load_plan_append(struct load_request **all, int n, struct load_request request)
{
        struct load_request *more;

        if (n == LOAD_REQUESTS_MAX)
                return -E2BIG;
        if ((n & (n - 1)) == 0) {
                more = realloc(*all, sizeof *more * (n ? 2 * (size_t)n : 1));
                if (!more)
                        return -ENOMEM;
                *all = more;
        }
        (*all)[n] = request;
        return n + 1;
}

int load_plan_poisson(const struct load_wish *wish, struct load_request **ret)
{
        struct takt_random random;
        double at_s = 0;
        int n = 0;

        *ret = NULL;
        takt_random_seed(&random, wish->seed);
        while (n >= 0) {
                at_s += -log(1 - takt_random_unit(&random)) / wish->rate;
                if (at_s * 1e9 >= (double)wish->duration_ns)
                        return n;
                n = load_plan_append(
                        ret, n,
                        (struct load_request){
                                (uint64_t)(at_s * 1e9),
                                (uint32_t)takt_random_range(&random, wish->prompt[0], wish->prompt[1]),
                                (uint32_t)takt_random_range(&random, wish->output[0], wish->output[1])});
        }
        free(*ret);
        *ret = NULL;
        return n;
}
