// Continuous batching, step by step.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "batch.h"

static struct batch batch;

static void begin(int32_t size)
{
        for (int i = 0; i < BATCH_PLACES_MAX; i++)
                batch_end(&batch, i);
        batch = (struct batch){.size = size};
}

// A session whose prompt is n times its place.
static void follow(int place, int n, int most)
{
        int32_t *prompt = malloc((size_t)n * sizeof *prompt);

        assert_non_null(prompt);
        for (int i = 0; i < n; i++)
                prompt[i] = place;
        batch_follow(&batch, place, prompt, n, most, false);
}

// Computes a step, in which token follows each row, and writes its rows and what is said: "0@4: 0 0 > 7." is
// place 0 from its fourth token on, two tokens, after which it said 7 and was over.
static const char *step_of(int32_t token, bool is_end)
{
        static char text[512];
        struct batch_row rows[BATCH_PLACES_MAX];
        int n = batch_step(&batch, rows);
        size_t at = 0;

        text[0] = 0;
        for (int i = 0; i < n; i++) {
                struct batch_said said;

                at += (size_t)sprintf(text + at, "%s%d@%d:", i ? ", " : "", rows[i].place, rows[i].at);
                for (int j = 0; j < rows[i].n; j++)
                        at += (size_t)sprintf(text + at, " %d", rows[i].tokens[j]);
                if (!batch_advance(&batch, &rows[i], token, is_end, &said))
                        continue;
                assert_int_equal(said.place, rows[i].place);
                at += (size_t)sprintf(text + at, said.token == BATCH_NONE ? " >" : " > %d", said.token);
                at += (size_t)sprintf(text + at, said.over ? "." : "");
        }
        return text;
}

static const char *step(int32_t token)
{
        return step_of(token, false);
}

static void prompt_is_computed_in_pieces(void **state)
{
        (void)state;
        begin(4);
        follow(3, 6, 2);
        assert_string_equal(step(100), "3@0: 3 3 3 3");
        assert_string_equal(step(100), "3@4: 3 3 > 100");
        assert_string_equal(step(101), "3@6: 100 > 101.");
        assert_string_equal(step(102), "");
}

static void prompts_are_every_second_step(void **state)
{
        (void)state;
        begin(4);
        follow(1, 1, 9);
        assert_string_equal(step(10), "1@0: 1 > 10");
        assert_string_equal(step(11), "1@1: 10 > 11");
        follow(0, 5, 9);
        follow(3, 4, 9);
        assert_string_equal(step(12), "0@0: 0 0 0 0");
        assert_string_equal(step(13), "0@4: 0 > 13, 1@2: 11 > 13, 3@0: 3 3");
        assert_string_equal(step(14), "3@2: 3 3 > 14");
        assert_string_equal(step(15), "0@5: 13 > 15, 1@3: 13 > 15, 3@4: 14 > 15");
}

static void oldest_prompt_is_first(void **state)
{
        (void)state;
        begin(4);
        follow(2, 3, 9);
        follow(0, 3, 9);
        assert_string_equal(step(10), "0@0: 0, 2@0: 2 2 2 > 10");
}

static void place_has_another_after(void **state)
{
        (void)state;
        begin(4);
        follow(0, 1, 1);
        follow(1, 1, 1);
        assert_string_equal(step(10), "0@0: 0 > 10., 1@0: 1 > 10.");
        follow(1, 2, 1);
        assert_string_equal(step(11), "1@0: 1 1 > 11.");
}

static void text_ends_where_model_says(void **state)
{
        (void)state;
        begin(4);
        follow(0, 1, 3);
        assert_string_equal(step(10), "0@0: 0 > 10");
        assert_string_equal(step_of(2, true), "0@1: 10 >.");
        int32_t *prompt = calloc(1, sizeof *prompt);

        batch_follow(&batch, 0, prompt, 1, 2, true);
        assert_string_equal(step_of(2, true), "0@0: 0 > 2");
        assert_string_equal(step_of(2, true), "0@1: 2 > 2.");
}

static void who_leaves_is_computed_no_more(void **state)
{
        struct batch_row rows[BATCH_PLACES_MAX];
        struct batch_said said;

        (void)state;
        begin(4);
        follow(0, 6, 9);
        follow(1, 1, 9);
        assert_int_equal(batch_step(&batch, rows), 1);
        batch_leave(&batch, 0); // while it is computed
        assert_int_equal(rows[0].tokens[3], 0);
        assert_false(batch_advance(&batch, &rows[0], 10, false, &said));
        assert_int_equal(batch_left(&batch), 0);
        assert_int_equal(batch_left(&batch), BATCH_NONE);
        assert_string_equal(step(10), "1@0: 1 > 10");
        batch_leave(&batch, 0); // it is over
        follow(0, 1, 1);
        assert_int_equal(batch_left(&batch), BATCH_NONE);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(prompt_is_computed_in_pieces),
                cmocka_unit_test(prompts_are_every_second_step),
                cmocka_unit_test(oldest_prompt_is_first),
                cmocka_unit_test(place_has_another_after),
                cmocka_unit_test(text_ends_where_model_says),
                cmocka_unit_test(who_leaves_is_computed_no_more),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
