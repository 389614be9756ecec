// The fair class under lasting contention: each has its share of the device by weight, however long the
// pieces of its work are and the gaps between them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "one_device.h"

#define TENANTS 3
#define TICK_NS (100 * TAKT_US)

// Always has another piece of work, a gap after the last was done.
static struct tenant {
        uint32_t weight;
        uint32_t share_ppm; // of the deadline class, if it is any
        uint64_t piece_ns, gap_ns;
        int lies; // never asks for the device, and says that it uses it all the time

        int open, wants, busy;
        uint64_t next_ns; // when its gap, or its piece, is over
} tenants[TENANTS];
static struct core *core;
static uint64_t now_ns, timer_ns;

static void tell(struct core_event event);

static void obey(const struct core_effect *effect)
{
        struct tenant *t = &tenants[effect->seat];

        if (effect->kind == CORE_EFFECT_OPEN) {
                t->open = 1;
                t->wants = 0;
        } else if (effect->kind == CORE_EFFECT_CLOSE) {
                t->open = 0;
                tell((struct core_event){.kind = t->busy ? CORE_EVENT_BUSY : CORE_EVENT_IDLE,
                                         .seat = effect->seat,
                                         .at_ns = t->busy ? t->next_ns - t->piece_ns : now_ns});
        }
}

static void tell(struct core_event event)
{
        struct core_effects effects;

        event.now_ns = now_ns;
        core_step(core, &event, &effects);
        timer_ns = effects.timer_ns;
        for (uint32_t i = 0; i < effects.n; i++)
                obey(&effects.effect[i]);
}

static void act(uint32_t seat)
{
        struct tenant *t = &tenants[seat];

        if (t->lies)
                tell((struct core_event){.kind = CORE_EVENT_IDLE,
                                         .seat = seat,
                                         .at_ns = now_ns,
                                         .busy_ns = TICK_NS,
                                         .steps = 1});
        if (t->lies || t->next_ns > now_ns)
                return;
        if (t->busy) {
                t->busy = 0;
                t->next_ns = now_ns + t->gap_ns;
                tell((struct core_event){.kind = CORE_EVENT_IDLE,
                                         .seat = seat,
                                         .at_ns = now_ns,
                                         .busy_ns = t->piece_ns,
                                         .steps = 1});
        } else if (t->open) {
                t->busy = 1;
                t->next_ns = now_ns + t->piece_ns;
                tell((struct core_event){.kind = CORE_EVENT_BUSY, .seat = seat, .at_ns = now_ns});
        } else if (!t->wants) {
                t->wants = 1;
                tell((struct core_event){.kind = CORE_EVENT_WANT, .seat = seat});
        }
}

static int begin(void **state)
{
        (void)state;
        now_ns = 0;
        core = one_device();
        return 0;
}

static int end(void **state)
{
        (void)state;
        free(core);
        return 0;
}

static void join(uint32_t seat, struct tenant tenant)
{
        struct core_contract contract = {.class = CORE_CLASS_FAIR, .weight = tenant.weight};

        if (tenant.share_ppm)
                contract = (struct core_contract){
                        .ttft_ns = 200 * TAKT_MS, .itl_ns = 50 * TAKT_MS, .share_ppm = tenant.share_ppm};
        tenants[seat] = tenant;
        tell((struct core_event){.kind = CORE_EVENT_JOIN, .seat = seat, .contract = &contract});
}

static uint64_t granted_ns(uint32_t seat)
{
        struct core_account account;

        assert_int_equal(core_account(core, seat, &account), 0);
        return account.granted_ns;
}

// For so long; then each had its percentage of what all had, within two points.
static void contend(uint64_t span_ns, const float percent[TENANTS])
{
        uint64_t had[TENANTS], whole = 0;

        for (uint32_t i = 0; i < TENANTS; i++)
                had[i] = granted_ns(i);
        for (uint64_t end_ns = now_ns + span_ns; now_ns < end_ns; now_ns += TICK_NS) {
                if (timer_ns <= now_ns)
                        tell((struct core_event){.kind = CORE_EVENT_TIMER});
                for (uint32_t i = 0; i < TENANTS; i++)
                        act(i);
        }
        for (uint32_t i = 0; i < TENANTS; i++)
                whole += had[i] = granted_ns(i) - had[i];
        for (uint32_t i = 0; i < TENANTS; i++)
                assert_float_equal((float)had[i] * 100 / (float)whole, percent[i], 2);
}

static void long_pieces_are_paid_for(void **state)
{
        (void)state;
        join(0, (struct tenant){.weight = 200, .piece_ns = 4 * TAKT_MS, .gap_ns = 1500 * TAKT_US});
        join(1, (struct tenant){.weight = 400, .piece_ns = 5 * TAKT_MS, .gap_ns = 600 * TAKT_US});
        join(2, (struct tenant){.weight = 400, .piece_ns = 15 * TAKT_MS, .gap_ns = 100 * TAKT_US});
        contend(20 * TAKT_S, (const float[]){20, 40, 40});
}

// Time for which one wanted less than its share is not owed to it later.
static void gaps_are_no_credit(void **state)
{
        (void)state;
        join(0, (struct tenant){.weight = 800, .piece_ns = TAKT_MS, .gap_ns = 9 * TAKT_MS});
        join(1, (struct tenant){.weight = 100, .piece_ns = 2 * TAKT_MS, .gap_ns = 100 * TAKT_US});
        join(2, (struct tenant){.weight = 100, .piece_ns = 2 * TAKT_MS, .gap_ns = 100 * TAKT_US});
        contend(20 * TAKT_S,
                (const float[]){10, 45, 45}); // all that it wants: 1 ms of 10, and nothing is kept for it
        tenants[0].gap_ns = 100 * TAKT_US;
        contend(2 * TAKT_S, (const float[]){80, 10, 10});
}

// What is promised to nobody is the fair class's before debtors have it, whatever one of the class claims.
static void claims_are_not_the_class_s(void **state)
{
        const struct tenant debtor = {.share_ppm = 300000, .piece_ns = 4 * TAKT_MS, .gap_ns = 100 * TAKT_US};
        const struct tenant fair = {.weight = 100, .piece_ns = 4 * TAKT_MS, .gap_ns = 100 * TAKT_US};

        (void)state;
        join(0, (struct tenant){.weight = 100, .lies = 1});
        join(1, fair);
        join(2, debtor);
        contend(20 * TAKT_S, (const float[]){0, 70, 30});
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(long_pieces_are_paid_for, begin, end),
                cmocka_unit_test_setup_teardown(gaps_are_no_credit, begin, end),
                cmocka_unit_test_setup_teardown(claims_are_not_the_class_s, begin, end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
