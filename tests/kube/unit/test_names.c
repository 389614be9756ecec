// What Kubernetes allows in a name, and that nothing else of others' words is printed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "kube/names.h"

static void labels(void **state)
{
        static const char *const good[] = {"a", "0", "default", "kube-system", "a--b", "0-a"};
        static const char *const bad[] = {"",    "-",    "-a",  "a-",  "a.b",     "A",
                                          "a b", "a\nb", "a\"", "a/b", "\xc3\xa4"};
        char text[65];

        (void)state;
        for (size_t i = 0; i < sizeof good / sizeof *good; i++)
                assert_true(names_is_label(good[i]));
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                assert_false(names_is_label(bad[i]));
        memset(text, 'a', sizeof text);
        text[63] = 0;
        assert_true(names_is_label(text));
        text[63] = 'a';
        text[64] = 0;
        assert_false(names_is_label(text));
}

static void subdomains(void **state)
{
        static const char *const good[] = {"a", "chat-7d9f", "a.b.c", "0.1", "ip-10-0-0-1.ec2.internal"};
        static const char *const bad[] = {"",     ".",   "a.",    ".a",       "a..b", "a.-b",
                                          "a-.b", "a.B", "a.b\n", "a.b/../c", "a.\""};
        char text[255];

        (void)state;
        for (size_t i = 0; i < sizeof good / sizeof *good; i++)
                assert_true(names_is_subdomain(good[i]));
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                assert_false(names_is_subdomain(bad[i]));
        memset(text, 'a', sizeof text);
        text[253] = 0;
        assert_true(names_is_subdomain(text));
        text[253] = 'a';
        text[254] = 0;
        assert_false(names_is_subdomain(text));
}

static void uids(void **state)
{
        (void)state;
        assert_true(names_is_uid("fc4b7b33-2b0c-42d5-9244-93a11eca7e10"));
        assert_true(names_is_uid("0123456789abcdef0123456789ABCDEF")); // a static pod's
        assert_false(names_is_uid(""));
        assert_false(names_is_uid("fc4b7b33-2b0c-42d5-9244-93a11eca7e101"));
        assert_false(names_is_uid("../../etc/passwd"));
        assert_false(names_is_uid("0\n"));
}

static void words(void **state)
{
        char text[] = "a \"b\"\n\x1b[2J\x7f\xff~";

        (void)state;
        names_make_plain(text);
        assert_string_equal(text, "a \"b\"??[2J??~");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(labels),
                cmocka_unit_test(subdomains),
                cmocka_unit_test(uids),
                cmocka_unit_test(words),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
