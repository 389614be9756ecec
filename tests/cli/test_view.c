// The picture of takt status and takt top: parts worked out by hand, names that would speak to the terminal,
// lines that fit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "cli/view.h"

#define TENANT(number, name, device, more)                                                                   \
        "{\"tenant\":" #number ",\"name\":\"" name "\",\"device\":" #device ",\"class\":\"fair\"," more "}"

static size_t height_of_view; // 0: as many lines as there are

static char *picture(const char *now, const char *before, int width)
{
        json_t *a = json_loads(now, 0, NULL), *b = before ? json_loads(before, 0, NULL) : NULL;
        char *text = NULL;
        size_t size;
        struct view view = {.out = open_memstream(&text, &size),
                            .width = width,
                            .height = height_of_view,
                            .line_end = "\n"};

        assert_non_null(a);
        view_print(&view, a, b);
        fclose(view.out);
        json_decref(a);
        json_decref(b);
        return text;
}

static const char first[] =
        "{\"pid\":7,\"devices\":[{\"device\":0,\"name\":\"A\",\"elapsed_ns\":2000,\"granted_ns\":1500,\"idle_"
        "ns\":480,"
        "\"switch_ns\":20,\"switches\":3,\"bypass\":false},{\"device\":1,\"name\":\"B\",\"elapsed_ns\":1000,"
        "\"granted_ns\":0,"
        "\"idle_ns\":1000,\"switch_ns\":0,\"switches\":0,\"bypass\":true}],\"tenants\":[" TENANT(
                0, "chat", 0,
                "\"holds\":true,\"wants\":false,\"granted_ns\":1000,\"busy_ns\":500,\"wait_p50_ns\":1234567,"
                "\"wait_p99_ns\":9876543,\"waits\":[900,70,20,10],"
                "\"requests\":12,\"steps\":34,\"overruns\":5,\"memory_used\":3145728,\"memory_quota\":"
                "8388608") "," TENANT(5, "r", 1,
                                      "\"holds\":false,\"wants\":true,\"granted_ns\":250,\"busy_ns\":10") "]"
                                                                                                          "}";
static const char later[] =
        "{\"pid\":7,\"wait_bounds_ns\":[1000000,2000000,4000000],"
        "\"devices\":[{\"device\":0,\"name\":\"A\",\"elapsed_ns\":3000,\"granted_ns\":1600,\"idle_"
        "ns\":1380,"
        "\"switch_ns\":20,\"switches\":5,\"bypass\":false},{\"device\":1,\"name\":\"B\",\"elapsed_ns\":2000,"
        "\"granted_ns\":500,"
        "\"idle_ns\":1500,\"switch_ns\":0,\"switches\":1,\"bypass\":false}],\"tenants\":[" TENANT(
                0, "chat", 0,
                "\"granted_ns\":1100,\"busy_ns\":510,\"requests\":15,\"steps\":134,\"overruns\":6,"
                "\"wait_p50_ns\":1234567,\"wait_p99_ns\":9876543,\"wait_max_ns\":55000000,"
                "\"waits\":[900,80,109,10]") "," TENANT(5, "new", 1,
                                                        "\"granted_ns\":500,\"busy_ns\":400,\"requests\":2,"
                                                        "\"wait_p50_ns\":5000000,\"wait_p99_ns\":6000000,"
                                                        "\"waits\":[0,0,0,2]") "]}";

static void assert_lines(char *text, const char *const *lines)
{
        char *save, *line = strtok_r(text, "\n", &save);

        for (; *lines; lines++, line = strtok_r(NULL, "\n", &save))
                assert_string_equal(line, *lines);
        assert_null(line);
        free(text);
}

static const char head[] = "TENANT           STATE   HELD   BUSY  WAIT p50  WAIT p99 REQUESTS    MEMORY MiB "
                           "CLASS       STEPS OVERRUNS";

static void parts_are_of_all_time(void **state)
{
        static const char *const lines[] = {
                "GPU 0 A: granted 75.0 %, idle 24.0 %, switching 1.00 %, 3 switches",
                "GPU 1 B: granted 0.0 %, idle 100.0 %, switching 0.00 %, 0 switches; BYPASS: first come, "
                "first served",
                head,
                "chat             holds  50.0%  25.0%    1.23ms    9.88ms       12           3/8 fair        "
                "   34        5",
                "r                waits  25.0%   1.0%         -         -        0           0/- fair        "
                "    0        0",
                NULL};

        (void)state;
        assert_lines(picture(first, NULL, 0), lines);
}

static void parts_are_of_the_time_between(void **state)
{
        static const char *const lines[] = {
                "GPU 0 A: granted 10.0 %, idle 90.0 %, switching 0.00 %, 2 switches",
                "GPU 1 B: granted 50.0 %, idle 50.0 %, switching 0.00 %, 1 switches",
                head,
                "chat             idle   10.0%   1.0%    4.00ms    4.00ms        3           0/- fair        "
                "  100        1",
                "new              idle   50.0%  40.0%    5.00ms    6.00ms        2           0/- fair        "
                "    0        0",
                NULL};

        (void)state;
        assert_lines(picture(later, first, 0), lines); // "new" sits where "r" sat: it is another
}

static void assert_waits(const char *now, const char *before, const char *p50_p99)
{
        static const char status[] = "{\"pid\":1,\"wait_bounds_ns\":[1000000,2000000],\"tenants\":[" TENANT(
                0, "t", 0,
                "\"wait_p50_ns\":7,\"wait_p99_ns\":7,\"wait_max_ns\":55000000,\"waits\":[%s]") "]}";
        char a[512], b[512], *text;

        snprintf(a, sizeof a, status, now);
        snprintf(b, sizeof b, status, before);
        text = picture(a, b, 0);
        if (!strstr(text, p50_p99))
                fail_msg("%s after %s: %s", now, before, text);
        free(text);
}

// Of the time between, whatever was before it; each is the bound that it did not exceed.
static void waits_are_of_the_time_between(void **state)
{
        (void)state;
        assert_waits("1000,0,0", "1000,0,0", "        -         -");
        assert_waits("1000,0,0", "999,0,0", "   1.00ms    1.00ms");
        assert_waits("1000,1,0", "1000,0,0", "   2.00ms    2.00ms");
        assert_waits("1000,0,9", "1000,0,8", "  55.00ms   55.00ms"); // beyond all bounds: the longest ever
        assert_waits("50,50,0", "0,0,0", "   1.00ms    2.00ms");
        assert_waits("149,51,0", "100,0,0", "   2.00ms    2.00ms");
        assert_waits("99,1,7", "0,0,7", "   1.00ms    1.00ms");
        assert_waits("98,2,7", "0,0,7", "   1.00ms    2.00ms");
        assert_waits("", "", "        -         -");
        assert_waits("5,5,5", "", "   2.00ms   55.00ms"); // a daemon that did not count them then
}

static void what_does_not_fit_is_counted(void **state)
{
        static const struct {
                size_t height;
                const char *last;
                size_t n_lines;
        } cases[] = {{0, "r  ", 5},
                     {6, "r  ", 5},
                     {5, "r  ", 5},
                     {4, "2 more do not fit", 4},
                     {3, "3 more do not fit", 3}};
        static const char *const none[] = {"no GPU was found on this machine", head, "2 more do not fit",
                                           NULL};

        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                size_t n = 0;
                char *text, *last = NULL;

                height_of_view = cases[i].height;
                text = picture(first, NULL, 0);
                for (char *save, *line = strtok_r(text, "\n", &save); line;
                     line = strtok_r(NULL, "\n", &save)) {
                        n++;
                        last = line;
                }
                assert_int_equal(n, cases[i].n_lines);
                assert_memory_equal(last, cases[i].last, strlen(cases[i].last));
                free(text);
        }
        height_of_view = 3;
        assert_lines(picture("{\"tenants\":[{},{}]}", NULL, 0), none);
        height_of_view = 0;
}

static void another_daemon_counts_from_nothing(void **state)
{
        char other[sizeof first], *a, *b;

        (void)state;
        strcpy(other, first);
        *strchr(other, '7') = '8';
        a = picture(later, other, 0);
        b = picture(later, NULL, 0);
        assert_string_equal(a, b);
        free(a);
        free(b);
}

static void no_time_and_no_gpu(void **state)
{
        static const char *const same[] = {"GPU 0 A: granted 0.0 %, idle 0.0 %, switching 0.00 %, 0 switches",
                                           head, NULL};
        static const char *const none[] = {"no GPU was found on this machine", head, NULL};
        static const char still[] =
                "{\"pid\":1,\"devices\":[{\"device\":0,\"name\":\"A\",\"elapsed_ns\":5}],\"tenants\":[]}";

        (void)state;
        assert_lines(picture(still, still, 0), same);
        assert_lines(picture("{\"devices\":[],\"tenants\":[]}", NULL, 0), none);
        assert_lines(picture("{}", NULL, 0), none);
}

static void lines_are_cut_between_characters(void **state)
{
        static const char text[] =
                "{\"tenants\":[" TENANT(0, "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 0, "\"granted_ns\":0") "]}";
        static const char *const lines[] = {"no ", "TEN", "\xc3\xa9\xc3\xa9\xc3\xa9", NULL};

        (void)state;
        assert_lines(picture(text, NULL, 3), lines);
}

// What people who watch need (docs/man/takt-top.1) fits into 80 columns.
static void what_matters_fits_a_small_terminal(void **state)
{
        char *text = picture(first, NULL, 80);

        (void)state;
        for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                assert_true(strlen(line) <= 80);
        free(text);
        text = picture(first, NULL, 79);
        assert_non_null(strstr(text, "MEMORY MiB\n"));
        assert_non_null(strstr(text, "3/8\n"));
        free(text);
}

static void assert_name(const char *name, unsigned n, const char *shown)
{
        char text[64];

        view_name(name, n, text, sizeof text);
        assert_string_equal(text, shown);
}

static void names_do_not_speak_to_the_terminal(void **state)
{
        (void)state;
        assert_name("chat", 6, "chat  ");
        assert_name("chat", 0, "chat");
        assert_name("summariser", 4, "summ");
        assert_name("", 2, "  ");
        assert_name("\x1b[2Ja\nb\x7f", 8, "?[2Ja?b?");
        assert_name("a\xc2\x9bK", 4, "a?K "); // CSI as one character
        assert_name("\xc2\xa0", 1, "\xc2\xa0");
        assert_name("\xe2\x82\xac\xf0\x9f\x98\x80x", 2, "\xe2\x82\xac\xf0\x9f\x98\x80");
}

static void long_names_stay_in_their_room(void **state)
{
        char text[16], name[200];

        (void)state;
        memset(name, 'x', sizeof name - 1);
        name[199] = 0;
        view_name(name, 0, text, sizeof text);
        assert_true(strlen(text) < sizeof text);
        view_name("a", 100, text, sizeof text);
        assert_int_equal(strlen(text), sizeof text - 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(parts_are_of_all_time),
                cmocka_unit_test(parts_are_of_the_time_between),
                cmocka_unit_test(waits_are_of_the_time_between),
                cmocka_unit_test(what_does_not_fit_is_counted),
                cmocka_unit_test(another_daemon_counts_from_nothing),
                cmocka_unit_test(no_time_and_no_gpu),
                cmocka_unit_test(lines_are_cut_between_characters),
                cmocka_unit_test(what_matters_fits_a_small_terminal),
                cmocka_unit_test(names_do_not_speak_to_the_terminal),
                cmocka_unit_test(long_names_stay_in_their_room),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
