// The policy in simulated time: the demo's load, alone, shared the stock way, and under Takt, over many
// seeds; and the largest multiple of the load that each way of sharing carries.
#include <stdlib.h>
#include "bench.h"
#include "scenario.h"
#include "base/time.h"

enum { ROUTER, CHAT, SUMMARISER };

// The results of all seeds put together, as sorted samples.
struct pooled {
        double *ms[SCENARIO_AGENTS_MAX];
        uint32_t n[SCENARIO_AGENTS_MAX], late[SCENARIO_AGENTS_MAX];
        double sum[SCENARIO_AGENTS_MAX], wasted_ms, waited_ms;
        int refused;
};

static struct scenario_result result;

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void pool(const struct scenario *s, enum scenario_policy policy, uint32_t n_seeds, struct pooled *ret)
{
        memset(ret, 0, sizeof *ret);
        for (uint32_t seed = 1; seed <= n_seeds; seed++) {
                scenario_run(s, policy, seed, &result);
                ret->refused |= result.refused;
                ret->wasted_ms += result.wasted_ms;
                ret->waited_ms += result.waited_ms;
                for (uint32_t i = 0; i < s->n_agents; i++) {
                        const struct scenario_samples *v = scenario_judged(s, &result, i);

                        ret->ms[i] = realloc(ret->ms[i], (ret->n[i] + v->n) * sizeof(double));
                        memcpy(ret->ms[i] + ret->n[i], v->ms, v->n * sizeof(double));
                        ret->n[i] += v->n;
                        ret->late[i] += v->late;
                        ret->sum[i] += scenario_mean(v) * v->n;
                }
        }
        for (uint32_t i = 0; i < s->n_agents; i++)
                qsort(ret->ms[i], ret->n[i], sizeof(double), by_value);
}

static double at(const struct pooled *p, int agent, double part)
{
        uint32_t i = (uint32_t)(part * p->n[agent]);

        return p->ms[agent][i < p->n[agent] ? i : p->n[agent] - 1];
}

static void show(const struct scenario *s, const char *name, const struct pooled *p)
{
        for (uint32_t i = 0; i < s->n_agents; i++)
                printf("  %-6s %-11s mean %7.1f  p50 %7.1f  p99 %7.1f  max %7.1f ms, late %.3f %% of %u\n",
                       name, s->agent[i].name, p->sum[i] / p->n[i], at(p, (int)i, .5), at(p, (int)i, .99),
                       at(p, (int)i, 1), 100. * p->late[i] / p->n[i], p->n[i]);
}

// The largest multiple (in steps of a twentieth) at which 99.8 % of each agent's requests are in time. The
// summariser's are few: it takes many seeds to tell 2 late of 1,000 from 3.
static double capacity(const struct scenario *demo, enum scenario_policy policy, uint32_t n_seeds)
{
        struct scenario s = *demo;
        struct pooled p;
        double best = 0;

        for (int twentieths = 8; twentieths <= 32; twentieths++) {
                int held = 1;

                s.load = twentieths / 20.;
                pool(&s, policy, n_seeds, &p);
                for (uint32_t i = 0; i < s.n_agents; i++) {
                        held &= p.late[i] <= .002 * p.n[i];
                        free(p.ms[i]);
                }
                if (!held)
                        break;
                best = s.load;
        }
        return best;
}

int main(int argc, char **argv)
{
        struct bench bench;
        struct scenario s, engine, slow;
        struct pooled alone, stock, takt, blind, engine_alone, engine_takt, slow_alone, slow_takt;
        uint32_t n_seeds = 10;
        double carried, carried_stock;

        if (bench_init(&bench, "policy", "the demo's load in simulated time, 20 minutes, 10 seeds", argc,
                       argv))
                return 0;
        scenario_demo(&s);
        pool(&s, SCENARIO_ALONE, n_seeds, &alone);
        pool(&s, SCENARIO_STOCK, n_seeds, &stock);
        pool(&s, SCENARIO_TAKT, n_seeds, &takt);
        pool(&s, SCENARIO_BLIND, n_seeds, &blind);
        scenario_engine(&engine);
        pool(&engine, SCENARIO_ALONE, n_seeds, &engine_alone);
        pool(&engine, SCENARIO_TAKT, n_seeds, &engine_takt);
        scenario_slow(&slow);
        pool(&slow, SCENARIO_ALONE, n_seeds, &slow_alone);
        pool(&slow, SCENARIO_TAKT, n_seeds, &slow_takt);
        if (!bench.json) {
                show(&s, "alone", &alone);
                show(&s, "stock", &stock);
                show(&s, "takt", &takt);
                show(&s, "blind", &blind);
                show(&engine, "engine", &engine_takt);
                show(&slow, "slow", &slow_takt);
        }
        bench_row(&bench, "router p99 end to end, Takt to alone",
                  at(&takt, ROUTER, .99) / at(&alone, ROUTER, .99), 1.10, "x");
        bench_row(&bench, "router p99 end to end, stock to alone",
                  at(&stock, ROUTER, .99) / at(&alone, ROUTER, .99), -1, "x");
        bench_row(&bench, "router and chat past 200 ms", takt.late[ROUTER] + takt.late[CHAT], 0, "");
        bench_row(&bench, "summariser past 2 s, Takt to stock",
                  (double)takt.late[SUMMARISER] / stock.late[SUMMARISER], .5, "x");
        bench_row(&bench, "router mean end to end", takt.sum[ROUTER] / takt.n[ROUTER], 150, "ms");
        bench_row(&bench, "chat mean first token", takt.sum[CHAT] / takt.n[CHAT], 150, "ms");
        bench_row(&bench, "device idle while somebody waits", 100 * takt.wasted_ms / takt.waited_ms, 2, "%");
        bench_row(&bench, "router p99, Takt to alone, with the engine's times",
                  at(&engine_takt, ROUTER, .99) / at(&engine_alone, ROUTER, .99), -1, "x");
        bench_row(&bench, "router and chat past 200 ms, with those",
                  engine_takt.late[ROUTER] + engine_takt.late[CHAT], -1, "");
        bench_row(&bench, "device idle while somebody waits, with those",
                  100 * engine_takt.wasted_ms / engine_takt.waited_ms, -1, "%");
        bench_row(&bench, "router p99, Takt to alone, on a slow day",
                  at(&slow_takt, ROUTER, .99) / at(&slow_alone, ROUTER, .99), -1, "x");
        bench_row(&bench, "router and chat past 200 ms, then", slow_takt.late[ROUTER] + slow_takt.late[CHAT],
                  -1, "");
        carried = capacity(&s, SCENARIO_TAKT, 4 * n_seeds);
        carried_stock = capacity(&s, SCENARIO_STOCK, 4 * n_seeds);
        bench_row(&bench, "load carried at 99.8 % in time, Takt", carried, -1, "x");
        bench_row(&bench, "load carried at 99.8 % in time, stock", carried_stock, -1, "x");
        bench_row(&bench, "stock's load to Takt's, times 1.5", carried ? 1.5 * carried_stock / carried : 9, 1,
                  "x");
        return bench_end(&bench);
}
