// base: a file is put in its place whole or not at all, whatever lies in the way.
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/put.h"

static char dir[] = "/tmp/takt-put-XXXXXX";

static void write_text(const char *name, const char *text)
{
        FILE *file = fopen(name, "w");

        assert_non_null(file);
        assert_true(fputs(text, file) >= 0 && fclose(file) == 0);
}

static void assert_text(const char *name, const char *text)
{
        char there[64] = "";
        FILE *file = fopen(name, "r");

        assert_non_null(file);
        assert_int_equal(fread(there, 1, sizeof there - 1, file), strlen(text));
        fclose(file);
        assert_string_equal(there, text);
}

static int begin(void **state)
{
        (void)state;
        return !mkdtemp(dir) || chdir(dir);
}

static int end(void **state)
{
        (void)state;
        unlink("from"), unlink("to"), unlink("old");
        return chdir("/") || rmdir(dir); // and so nothing else was left
}

static void a_copy_takes_the_place(void **state)
{
        struct stat about;

        (void)state;
        write_text("from", "new");
        write_text("to", "a longer text");
        write_text("to.new", "of one that was killed");
        assert_int_equal(link("to", "old"), 0); // as a program that has it mapped
        assert_int_equal(takt_put_copy("from", "to"), 0);
        assert_text("to", "new");
        assert_text("old", "a longer text");
        assert_int_equal(stat("to", &about), 0);
        assert_int_equal(about.st_mode & 07777, 0755);
}

static void a_copy_that_fails_changes_nothing(void **state)
{
        (void)state;
        write_text("from", "new");
        write_text("to", "old");
        assert_int_equal(takt_put_copy("gone", "to"), -ENOENT);
        assert_int_equal(takt_put_copy("/dev/full/x", "to"), -ENOTDIR);
        assert_int_equal(takt_put_copy(".", "to"), -EIO); // opened, but not read
        assert_text("to", "old");
        assert_int_equal(takt_put_copy("from", "gone/to"), -ENOENT);
}

static void links_are_replaced_not_followed(void **state)
{
        char where[PATH_MAX] = "";

        (void)state;
        write_text("old", "old");
        unlink("to");
        assert_int_equal(symlink("old", "to"), 0);
        write_text("from", "new");
        assert_int_equal(takt_put_copy("from", "to"), 0);
        assert_text("old", "old");
        assert_int_equal(takt_put_link("gone", "to"), 0);
        assert_int_equal(readlink("to", where, sizeof where - 1), 4);
        assert_string_equal(where, "gone");
        assert_int_equal(takt_put_link("gone", "gone/to"), -ENOENT);
}

static void a_name_too_long_is_refused(void **state)
{
        static char name[PATH_MAX];

        (void)state;
        memset(name, 'a', sizeof name - 2);
        assert_int_equal(takt_put_copy("from", name), -ENAMETOOLONG);
        assert_int_equal(takt_put_link("from", name), -ENAMETOOLONG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_copy_takes_the_place),
                cmocka_unit_test(a_copy_that_fails_changes_nothing),
                cmocka_unit_test(links_are_replaced_not_followed),
                cmocka_unit_test(a_name_too_long_is_refused),
        };

        return cmocka_run_group_tests(tests, begin, end);
}
