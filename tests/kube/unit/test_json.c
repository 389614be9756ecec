// JSON of others costs no more memory than is said, whatever it is of.
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "kube/json.h"
#include "kube/limits.h"

static char text[16 << 20];

// An array of n pieces.
static size_t fill(const char *piece, size_t n)
{
        size_t at = 0;

        text[at++] = '[';
        for (size_t i = 0; i < n; i++)
                at += (size_t)sprintf(text + at, "%s%s", i ? "," : "", piece);
        text[at++] = ']';
        return at;
}

static void so_many_and_no_more(void **state)
{
        json_t *tree;

        (void)state;
        assert_int_equal(json_read(text, fill("0", KUBE_JSON_VALUES_MAX), &tree), 0);
        assert_int_equal(json_array_size(tree), KUBE_JSON_VALUES_MAX);
        json_decref(tree);
        assert_int_equal(json_read(text, fill("0", KUBE_JSON_VALUES_MAX + 1), &tree), -EFBIG);
        assert_null(tree);
        assert_int_equal(json_read(text, fill("{}", KUBE_JSON_VALUES_MAX / 2 + 1), &tree), -EFBIG);
}

static void a_strings_letters_are_one_value(void **state)
{
        json_t *tree;

        (void)state;
        assert_int_equal(json_read(text, fill("\"[{,,,\\\",,,\\\\\"", KUBE_JSON_VALUES_MAX), &tree), 0);
        assert_string_equal(json_string_value(json_array_get(tree, 7)), "[{,,,\",,,\\");
        json_decref(tree);
        assert_int_equal(json_read("\"\\", 2, &tree), -EBADMSG);
        assert_int_equal(json_read("", 0, &tree), -EBADMSG);
        assert_int_equal(json_read("{\"a\":", 5, &tree), -EBADMSG);
}

static size_t used(void)
{
        struct mallinfo2 now = mallinfo2();

        return now.uordblks + now.hblkhd;
}

static void the_dearest(void **state)
{
        static const struct {
                const char *piece;
                size_t n_values;
        } kinds[] = {{"[]", 2},        {"{}", 2},    {"{\"a\":{}}", 3}, {"{\"a\":[]}", 3},
                     {"{\"a\":0}", 2}, {"\"a\"", 1}, {"0.5", 1}};

        (void)state;
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
                size_t size = fill(kinds[i].piece, KUBE_JSON_VALUES_MAX / kinds[i].n_values), before = used();
                json_t *tree;

                assert_int_equal(json_read(text, size, &tree), 0);
                assert_true(used() - before < 12 << 20);
                json_decref(tree);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(so_many_and_no_more),
                cmocka_unit_test(a_strings_letters_are_one_value),
                cmocka_unit_test(the_dearest),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
