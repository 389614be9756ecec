// What kind of program a file is, whatever is in it.
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>
#include "kube/program.h"

// A file of a header, two parts and the loader's path.
static struct image {
        Elf64_Ehdr head;
        Elf64_Phdr part[2];
        char loader[64];
} image;

static void make(const char *loader)
{
        memset(&image, 0, sizeof image);
        memcpy(image.head.e_ident, ELFMAG, SELFMAG);
        image.head.e_ident[EI_CLASS] = ELFCLASS64;
        image.head.e_ident[EI_DATA] = ELFDATA2LSB;
        image.head.e_phoff = offsetof(struct image, part);
        image.head.e_phentsize = sizeof image.part[0];
        image.head.e_phnum = 2;
        image.part[0].p_type = PT_LOAD;
        image.part[1].p_type = PT_NOTE;
        if (!loader)
                return;
        strcpy(image.loader, loader);
        image.part[1] = (Elf64_Phdr){.p_type = PT_INTERP,
                                     .p_offset = offsetof(struct image, loader),
                                     .p_filesz = strlen(loader) + 1};
}

static enum program kind_of(size_t size)
{
        int fd = memfd_create("program", 0);
        enum program ret;

        assert_true(fd >= 0);
        assert_int_equal(write(fd, &image, size), (ssize_t)size);
        ret = program_of_file(fd);
        close(fd);
        return ret;
}

static void the_loader_says_it(void **state)
{
        (void)state;
        make("/lib64/ld-linux-x86-64.so.2");
        assert_int_equal(kind_of(sizeof image), PROGRAM_GLIBC);
        make("/lib/ld-musl-x86_64.so.1");
        assert_int_equal(kind_of(sizeof image), PROGRAM_MUSL);
        make("ld-musl-aarch64.so.1");
        assert_int_equal(kind_of(sizeof image), PROGRAM_MUSL);
        make("/ld-musl/ld.so");
        assert_int_equal(kind_of(sizeof image), PROGRAM_GLIBC);
        make(NULL);
        assert_int_equal(kind_of(sizeof image), PROGRAM_STATIC);
}

static void this_one_has_a_loader(void **state)
{
        (void)state;
        assert_int_equal(program_of(getpid()), PROGRAM_GLIBC);
        assert_int_equal(program_of(-1), PROGRAM_UNKNOWN);
}

static void what_ends_too_early_is_not_known(void **state)
{
        (void)state;
        make("/lib/ld-musl-x86_64.so.1");
        for (size_t n = 0; n < offsetof(struct image, loader) + strlen(image.loader) + 1; n++)
                assert_int_equal(kind_of(n), PROGRAM_UNKNOWN);
        make(NULL);
        for (size_t n = 0; n < offsetof(struct image, loader); n++)
                assert_int_equal(kind_of(n), PROGRAM_UNKNOWN);
}

static void what_lies_is_not_known(void **state)
{
        static const uint64_t sizes[] = {0, 1, 257, UINT32_MAX, UINT64_MAX};
        static const uint64_t places[] = {sizeof image, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX};

        (void)state;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                make("/lib/ld-musl-x86_64.so.1");
                image.part[1].p_filesz = sizes[i];
                assert_int_equal(kind_of(sizeof image), PROGRAM_UNKNOWN);
        }
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
                make("/lib/ld-musl-x86_64.so.1");
                image.part[1].p_offset = places[i];
                assert_int_equal(kind_of(sizeof image), PROGRAM_UNKNOWN);
                make(NULL);
                image.head.e_phoff = places[i];
                assert_int_equal(kind_of(sizeof image), PROGRAM_UNKNOWN);
        }
        make("/lib/ld-musl-x86_64.so.1");
        image.part[1].p_filesz--; // its end is not in it
        assert_int_equal(kind_of(sizeof image), PROGRAM_UNKNOWN);
        make(NULL);
        image.head.e_phnum = 0;
        assert_int_equal(kind_of(sizeof image), PROGRAM_UNKNOWN);
        image.head.e_phnum = UINT16_MAX;
        assert_int_equal(kind_of(sizeof image), PROGRAM_UNKNOWN);
        make(NULL);
        image.head.e_phentsize = 1;
        assert_int_equal(kind_of(sizeof image), PROGRAM_UNKNOWN);
        make(NULL);
        image.head.e_ident[EI_CLASS] = ELFCLASS32;
        assert_int_equal(kind_of(sizeof image), PROGRAM_UNKNOWN);
        memset(&image, 0xff, sizeof image);
        assert_int_equal(kind_of(sizeof image), PROGRAM_UNKNOWN);
}

static void no_byte_does_harm(void **state)
{
        (void)state;
        for (size_t at = 0; at < sizeof image; at++)
                for (int with = 0; with < 256; with += 51) {
                        make("/lib/ld-musl-x86_64.so.1");
                        ((unsigned char *)&image)[at] = (unsigned char)with;
                        assert_in_range(kind_of(sizeof image), PROGRAM_UNKNOWN, PROGRAM_MUSL);
                }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_loader_says_it),     cmocka_unit_test(this_one_has_a_loader),
                cmocka_unit_test(what_lies_is_not_known), cmocka_unit_test(what_ends_too_early_is_not_known),
                cmocka_unit_test(no_byte_does_harm),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
