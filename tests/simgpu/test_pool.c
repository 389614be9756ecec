// Which memory is whose: the lowest free piece is given, what is given back is free, and nothing is given
// twice.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "simgpu/pool.h"

#define PAGES(n) ((n)*SIM_PAGE)

static struct sim_pool pool;

static int empty(void **state)
{
        (void)state;
        pool = (struct sim_pool){.bytes = PAGES(100)};
        return 0;
}

static uint64_t take(uint32_t process, uint64_t bytes)
{
        uint64_t offset = UINT64_MAX;

        return sim_pool_take(&pool, process, bytes, &offset) ? UINT64_MAX : offset;
}

static void lowest_free_piece_that_is_large_enough(void **state)
{
        (void)state;
        assert_int_equal(take(0, PAGES(10)), 0);
        assert_int_equal(take(0, PAGES(20)), PAGES(10));
        assert_int_equal(take(0, PAGES(10)), PAGES(30));
        sim_pool_give(&pool, PAGES(10));
        assert_int_equal(take(1, PAGES(21)), PAGES(40));
        assert_int_equal(take(1, PAGES(5)), PAGES(10)); // the freed piece again
        assert_int_equal(take(1, PAGES(15)), PAGES(15));
        assert_int_equal(take(1, PAGES(1)), PAGES(61));
}

static void whole_pages(void **state)
{
        (void)state;
        assert_int_equal(take(0, 1), 0);
        assert_int_equal(take(0, SIM_PAGE + 1), PAGES(1));
        assert_int_equal(take(0, 1), PAGES(3));
}

static void no_more_than_there_is(void **state)
{
        (void)state;
        assert_true(take(0, PAGES(101)) == UINT64_MAX);
        assert_int_equal(take(0, PAGES(100)), 0);
        assert_true(take(0, 1) == UINT64_MAX);
        assert_int_equal(pool.n, 1);
        sim_pool_give(&pool, 0);
        assert_int_equal(take(0, PAGES(100)), 0);
}

static void what_is_not_there_cannot_be_given_back(void **state)
{
        (void)state;
        take(0, PAGES(10));
        sim_pool_give(&pool, PAGES(1)); // within a piece
        sim_pool_give(&pool, PAGES(10));
        assert_int_equal(pool.n, 1);
}

static void process_that_ends_gives_back_all_it_has(void **state)
{
        (void)state;
        take(1, PAGES(10));
        take(2, PAGES(10));
        take(1, PAGES(10));
        take(3, PAGES(10));
        sim_pool_drop(&pool, 1);
        assert_int_equal(pool.n, 2);
        assert_int_equal(pool.extent[0].process, 2);
        assert_int_equal(pool.extent[1].process, 3);
        assert_int_equal(take(4, PAGES(10)), 0);
        assert_int_equal(take(4, PAGES(10)), PAGES(20));
}

static void table_is_full(void **state)
{
        (void)state;
        pool.bytes = PAGES(2 * SIM_EXTENTS_MAX);
        for (int i = 0; i < SIM_EXTENTS_MAX; i++)
                assert_int_equal(take(0, SIM_PAGE), PAGES(i));
        assert_true(take(0, SIM_PAGE) == UINT64_MAX);
        sim_pool_give(&pool, PAGES(7));
        assert_int_equal(take(0, SIM_PAGE), PAGES(7));
}

// Against the plainest model there is: a byte for each page, with its owner.
static void nothing_is_given_twice(void **state)
{
        unsigned char owner[100] = {0};
        uint64_t held[100] = {0}, n_pages[100];

        (void)state;
        srand(1);
        for (int step = 1; step < 20000; step++) {
                int who = rand() % 100;

                if (held[who]) {
                        sim_pool_give(&pool, held[who] - 1);
                        for (uint64_t p = 0; p < n_pages[who]; p++)
                                owner[(held[who] - 1) / SIM_PAGE + p] = 0;
                        held[who] = 0;
                        continue;
                }
                n_pages[who] = (uint64_t)(rand() % 8 + 1);
                held[who] = take((uint32_t)who, PAGES(n_pages[who])) + 1; // 0: there was no room
                for (uint64_t p = 0; held[who] && p < n_pages[who]; p++) {
                        assert_int_equal(owner[(held[who] - 1) / SIM_PAGE + p], 0);
                        owner[(held[who] - 1) / SIM_PAGE + p] = 1;
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(lowest_free_piece_that_is_large_enough, empty),
                cmocka_unit_test_setup(whole_pages, empty),
                cmocka_unit_test_setup(no_more_than_there_is, empty),
                cmocka_unit_test_setup(what_is_not_there_cannot_be_given_back, empty),
                cmocka_unit_test_setup(process_that_ends_gives_back_all_it_has, empty),
                cmocka_unit_test_setup(table_is_full, empty),
                cmocka_unit_test_setup(nothing_is_given_twice, empty),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
