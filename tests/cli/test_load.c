// takt load's parts: arrivals from a seed, traces good and broken, tokens in a stream, and numbers worked out
// by hand.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/time.h"
#include "cli/figure.h"
#include "cli/load_http.h"
#include "cli/load_plan.h"

static void percentiles_are_the_nearest_ranks(void **state)
{
        struct figure f = {0};

        (void)state;
        for (uint64_t ms = 100; ms > 0; ms--) // 1 to 100 ms, backwards
                assert_int_equal(figure_add(&f, ms * TAKT_MS, 90 * TAKT_MS), 0);
        figure_sort(&f);
        assert_true(figure_at(&f, 500) == 50 && figure_at(&f, 950) == 95);
        assert_true(figure_at(&f, 990) == 99); // not the largest: one in a hundred may be longer
        assert_true(figure_at(&f, 1000) == 100 && figure_at(&f, 0) == 1);
        assert_true(figure_mean(&f) == 50.5);
        assert_true(figure_jitter(&f) == 99. / 50);
        assert_int_equal(f.late, 10);
        figure_deinit(&f);
}

static void percentiles_of_few(void **state)
{
        struct figure f = {0};

        (void)state;
        figure_sort(&f);
        assert_true(figure_at(&f, 500) == 0 && figure_mean(&f) == 0 && figure_jitter(&f) == 0);
        figure_add(&f, 7 * TAKT_MS, 7 * TAKT_MS);
        assert_true(figure_at(&f, 1) == 7 && figure_at(&f, 1000) == 7 && figure_jitter(&f) == 1);
        assert_int_equal(f.late, 0); // as long as the objective is in time
        figure_add(&f, 9 * TAKT_MS, 0);
        figure_sort(&f);
        assert_true(figure_at(&f, 500) == 7 && figure_at(&f, 501) == 9);
        figure_deinit(&f);
        figure_add(&f, 0, 0);
        assert_true(figure_jitter(&f) == 0); // no multiple of nothing
        figure_deinit(&f);
}

static void poisson_keeps_its_wish(void **state)
{
        struct load_wish wish = {50, 100 * TAKT_S, 1, {3, 5}, {7, 7}};
        struct load_request *plan;
        int n = load_plan_poisson(&wish, &plan), low = 0, high = 0, short_gaps = 0;

        (void)state;
        // 5000 are awaited; the standard deviation is 71.
        assert_in_range(n, 5000 - 4 * 71, 5000 + 4 * 71);
        for (int i = 0; i < n; i++) {
                assert_in_range(plan[i].prompt_tokens, 3, 5);
                assert_int_equal(plan[i].output_tokens, 7);
                assert_true(plan[i].due_ns < wish.duration_ns);
                low += plan[i].prompt_tokens == 3;
                high += plan[i].prompt_tokens == 5;
                if (i) {
                        assert_true(plan[i].due_ns >= plan[i - 1].due_ns);
                        short_gaps += plan[i].due_ns - plan[i - 1].due_ns < 20 * TAKT_MS;
                }
        }
        assert_true(low > n / 4 && high > n / 4);
        // Of exponential gaps 1 - 1/e, 63.2 %, are shorter than the mean; of even ones none, or all.
        assert_in_range(short_gaps, n * 60 / 100, n * 67 / 100);
        free(plan);
}

static void same_seed_same_arrivals(void **state)
{
        struct load_wish wish = {20, 10 * TAKT_S, 7, {1, 99}, {1, 99}};
        struct load_request *a, *b, *c;
        int n = load_plan_poisson(&wish, &a), m = load_plan_poisson(&wish, &b);

        (void)state;
        assert_int_equal(n, m);
        assert_memory_equal(a, b, (size_t)n * sizeof *a);
        wish.seed++;
        assert_true(load_plan_poisson(&wish, &c) != n || memcmp(a, c, (size_t)n * sizeof *a));
        free(a);
        free(b);
        free(c);
}

static void nothing_and_too_much(void **state)
{
        struct load_wish wish = {1, 0, 1, {1, 1}, {1, 1}};
        struct load_request *plan;

        (void)state;
        assert_int_equal(load_plan_poisson(&wish, &plan), 0);
        wish = (struct load_wish){1e6, 3600 * TAKT_S, 1, {1, 1}, {1, 1}};
        assert_int_equal(load_plan_poisson(&wish, &plan), -E2BIG);
        assert_null(plan);
}

// A file with that text; the caller's to unlink.
static const char *file_of(const char *text)
{
        static char path[32];
        int fd;

        strcpy(path, "/tmp/takt-trace-XXXXXX");
        fd = mkstemp(path);
        assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
        close(fd);
        return path;
}

static int trace(const char *text, double speed, uint64_t duration_ns, struct load_request **plan, int *line)
{
        const char *path = file_of(text);
        int n = load_plan_trace(path, speed, duration_ns, plan, line);

        unlink(path);
        return n;
}

static void assert_request(const struct load_request *r, uint64_t due_ms, uint32_t prompt, uint32_t output)
{
        // Dates are seconds since 1970 with a fraction: good to a microsecond.
        assert_in_range(r->due_ns + TAKT_US, due_ms * TAKT_MS, due_ms * TAKT_MS + 2 * TAKT_US);
        assert_int_equal(r->prompt_tokens, prompt);
        assert_int_equal(r->output_tokens, output);
}

static void traces_of_all_kinds_say_the_same(void **state)
{
        static const char *const kinds[] = {
                "0,10,20\n0.5,30,40\n90,50,60\n",
                "time_s,prompt_tokens,output_tokens\r\n0,10,20\r\n0.5,30,40\r\n90,50,60",
                "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.6805900,10,20\n"
                "2023-11-17 00:00:00.1805900,30,40\n2023-11-17 00:01:29.6805900,50,60\n",
                "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00+00:00,10,20\n"
                "2024-05-10 00:00:00.500000+00:00,30,40\n2024-05-10 00:01:30+00:00,50,60\n",
                "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log "
                "Type\n0,ChatGPT,10,20,30,API log\n"
                "0,GPT-4,99,0,99,API log\n0.5,GPT-4,30,40,70,Conversation log\n90,GPT-4,50,60,110,API log\n",
                "{\"timestamp\": 0, \"input_length\": 10, \"output_length\": 20, \"hash_ids\": [1, 2]}\n"
                "{\"timestamp\": 500, \"input_length\": 30, \"output_length\": 40}\n"
                "{\"timestamp\": 90000, \"input_length\": 50, \"output_length\": 60}\n",
        };
        struct load_request *plan;
        int line;

        (void)state;
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
                int n = trace(kinds[i], 1, 3600 * TAKT_S, &plan, &line);

                assert_int_equal(n, 3);
                assert_request(&plan[0], 0, 10, 20);
                assert_request(&plan[1], 500, 30, 40);
                assert_request(&plan[2], 90000, 50, 60);
                free(plan);
        }
}

static void columns_are_found_by_their_names(void **state)
{
        struct load_request *plan;
        int line;

        (void)state;
        assert_int_equal(trace("output_tokens,time_s,model,prompt_tokens\n20,0,a,10\n40,0.5,b,30\n", 1,
                               TAKT_S, &plan, &line),
                         2);
        assert_request(&plan[1], 500, 30, 40);
        free(plan);
}

static void speed_and_duration_cut_a_trace(void **state)
{
        struct load_request *plan;
        int line;

        (void)state;
        assert_int_equal(trace("0,1,1\n10,1,1\n20,1,1\n30,1,1\n", 10, 2 * TAKT_S, &plan, &line), 2);
        assert_int_equal(plan[1].due_ns, TAKT_S);
        free(plan);
        assert_int_equal(trace("", 1, TAKT_S, &plan, &line), 0);
        free(plan);
        assert_int_equal(trace("time_s,prompt_tokens,output_tokens\n", 1, TAKT_S, &plan, &line), 0);
        free(plan);
}

static void broken_traces_name_their_line(void **state)
{
        static const struct {
                const char *text;
                int line;
        } broken[] = {
                {"a,b,c\n", 1}, // names, but not of what is needed
                {"0,1,1\n0,1\n", 2},
                {"0,1,1\n\n", 2},
                {"0,1,1\n0,x,1\n", 2},
                {"0,1,1\n.5,1,1\n", 2}, // a number begins with a digit
                {"0,1,1\n0,1x,1\n", 2},
                {"0,1,1\n1,-5,3\n", 2}, // as unsigned that would be a prompt of four thousand million
                {"0,1,1\n1,5,1000001\n", 2},
                {"0,1,1\nnan,5,1\n", 2},
                {"0,1,1\n1e999,5,1\n", 2},
                {"-1,1,1\n", 1},
                {"5,1,1\n4,1,1\n", 2}, // back in time
                {"time_s,prompt_tokens,output_tokens\ntime_s,prompt_tokens,output_tokens\n", 2},
                {"0,1,1\n{\"timestamp\": 1}\n", 2},
                {"{\"timestamp\": 0, \"input_length\": 1, \"output_length\": \"1\"}\n", 1},
                {"{\"timestamp\": 0\n", 1},
                {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16,1,1\n", 2},
                {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 10:00:00 CET,1,1\n", 2},
        };
        struct load_request *plan;
        int line;

        (void)state;
        for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
                int n = trace(broken[i].text, 1, TAKT_S, &plan, &line);

                if (n != -EBADMSG || line != broken[i].line || plan)
                        fail_msg("%s: %d in line %d", broken[i].text, n, line);
        }
        assert_int_equal(load_plan_trace("/nowhere", 1, TAKT_S, &plan, &line), -ENOENT);
        assert_true(load_plan_trace("/", 1, TAKT_S, &plan, &line) < 0);
}

static void long_lines_are_one_line(void **state)
{
        char *text = malloc(20000);
        struct load_request *plan;
        size_t n = (size_t)sprintf(
                text, "{\"timestamp\": 0, \"input_length\": 3, \"output_length\": 4, \"hash_ids\": [0");
        int line;

        (void)state;
        for (int i = 0; i < 3000; i++)
                n += (size_t)sprintf(text + n, ",%d", i);
        strcpy(text + n, "]}\n");
        assert_int_equal(trace(text, 1, TAKT_S, &plan, &line), 1);
        assert_request(plan, 0, 3, 4);
        free(plan);
        free(text);
}

static const char stream[] = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n"
                             ": a comment\n"
                             "data: {\"choices\":[{\"text\":\"usage\"}],\"usage\": null}\n\n"
                             "data: {\"choices\":[{\"text\":\"the \\\"usage\"}]}\r\n\n"
                             "data: {\"choices\":[{\"text\":\"\"}],\"usage\" : {\"completion_tokens\":2}}\n\n"
                             "data: [DONE]\n\n";

static void tokens_are_counted_however_the_bytes_are_cut(void **state)
{
        (void)state;
        for (size_t cut = 0; cut < sizeof stream; cut++) {
                struct load_events e = {0};
                uint32_t n = load_events_feed(&e, stream, cut);

                n += load_events_feed(&e, stream + cut, sizeof stream - 1 - cut);
                assert_int_equal(n, 3);
        }
}

static void what_is_no_token_is_not_counted(void **state)
{
        static const char *const none[] = {"\n\n\n",     "data: [DONE]\n",  "data:\n",
                                           "event: x\n", "{\"error\":1}\n", "data: {\"half\":"};
        struct load_events e = {0};

        (void)state;
        for (size_t i = 0; i < sizeof none / sizeof *none; i++)
                assert_int_equal(load_events_feed(&e, none[i], strlen(none[i])), 0);
        assert_int_equal(load_events_feed(&e, "1}\n", 3), 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(percentiles_are_the_nearest_ranks),
                cmocka_unit_test(percentiles_of_few),
                cmocka_unit_test(poisson_keeps_its_wish),
                cmocka_unit_test(same_seed_same_arrivals),
                cmocka_unit_test(nothing_and_too_much),
                cmocka_unit_test(traces_of_all_kinds_say_the_same),
                cmocka_unit_test(columns_are_found_by_their_names),
                cmocka_unit_test(speed_and_duration_cut_a_trace),
                cmocka_unit_test(broken_traces_name_their_line),
                cmocka_unit_test(long_lines_are_one_line),
                cmocka_unit_test(tokens_are_counted_however_the_bytes_are_cut),
                cmocka_unit_test(what_is_no_token_is_not_counted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
