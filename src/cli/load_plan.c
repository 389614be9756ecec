#include "cli/load_plan.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/random.h"

static int append(struct load_request **all, int n, struct load_request request)
{
        struct load_request *more;

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
                        break;
                n = append(ret, n,
                           (struct load_request){
                                   (uint64_t)(at_s * 1e9),
                                   (uint32_t)takt_random_range(&random, wish->prompt[0], wish->prompt[1]),
                                   (uint32_t)takt_random_range(&random, wish->output[0], wish->output[1])});
        }
        return n;
}

int load_plan_trace(const char *path, double speed, uint64_t duration_ns, struct load_request **ret,
                    int *ret_line)
{
        FILE *file = fopen(path, "re");
        char line[256];
        double at_s, last_s = 0;
        unsigned prompt, output;
        int n = 0;

        *ret = NULL;
        *ret_line = 0;
        if (!file)
                return -errno;
        while (n >= 0 && fgets(line, sizeof line, file)) {
                ++*ret_line;
                if (sscanf(line, "%lf,%u,%u", &at_s, &prompt, &output) != 3 || at_s < last_s || !prompt ||
                    !output) {
                        if (*ret_line == 1)
                                continue; // names
                        n = -EBADMSG;
                        break;
                }
                last_s = at_s;
                if (at_s / speed * 1e9 < (double)duration_ns)
                        n = append(ret, n,
                                   (struct load_request){(uint64_t)(at_s / speed * 1e9), prompt, output});
        }
        fclose(file);
        return n;
}
