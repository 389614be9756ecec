// gRPC's framing: whatever the pieces, the messages are the same; what is announced costs nothing.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/time.h"
#include "kube/grpc.h"

static void messages_come_whole_from_pieces_of_any_size(void **state)
{
        const uint8_t stream[] = {0, 0, 0, 0, 3, 'a', 'b', 'c', 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 'x'};

        (void)state;
        for (size_t piece = 1; piece <= sizeof stream; piece++) {
                struct grpc_reader reader = {.max = 16};
                char seen[16] = "";

                for (size_t at = 0; at < sizeof stream;) {
                        size_t n = piece < sizeof stream - at ? piece : sizeof stream - at;
                        const uint8_t *data = stream + at;

                        at += n;
                        while (n) {
                                int whole;
                                ptrdiff_t taken = grpc_read(&reader, data, n, &whole);

                                assert_true(taken > 0);
                                data += taken;
                                n -= (size_t)taken;
                                if (whole) {
                                        strncat(seen, reader.size ? (char *)reader.data : "", reader.size);
                                        strcat(seen, ".");
                                }
                        }
                }
                assert_string_equal(seen, "abc..x.");
                assert_true(grpc_reader_idle(&reader));
                grpc_reader_free(&reader);
        }
}

static void memory_is_for_what_came(void **state)
{
        const uint8_t huge[] = {0, 0x00, 0xff, 0xff, 0xff, 'a'}, over[] = {0, 0xff, 0xff, 0xff, 0xff};
        struct grpc_reader reader = {.max = UINT32_C(1) << 24};
        int whole;

        (void)state;
        assert_int_equal(grpc_read(&reader, huge, sizeof huge, &whole), sizeof huge);
        assert_false(whole);
        assert_true(reader.room <= 4096);
        assert_false(grpc_reader_idle(&reader));
        grpc_reader_free(&reader);
        assert_int_equal(grpc_read(&reader, over, sizeof over, &whole), -EMSGSIZE);
        grpc_reader_free(&reader);
        reader.max = 2;
        assert_int_equal(grpc_read(&reader, (const uint8_t *)"\0\0\0\0\2ab", 7, &whole), 7);
        assert_true(whole);
        assert_int_equal(grpc_read(&reader, (const uint8_t *)"\0\0\0\0\3", 5, &whole), -EMSGSIZE);
        grpc_reader_free(&reader);
}

static void compressed_messages_are_none_of_ours(void **state)
{
        struct grpc_reader reader = {.max = 16};
        int whole;

        (void)state;
        assert_int_equal(grpc_read(&reader, (const uint8_t *)"\1\0\0\0\0", 5, &whole), -EPROTO);
        grpc_reader_free(&reader);
}

static void timeouts_have_eight_digits_and_a_unit(void **state)
{
        static const struct {
                const char *text;
                uint64_t ns;
        } good[] = {{"1S", TAKT_S}, {"200m", 200 * TAKT_MS},      {"5u", 5 * TAKT_US},
                    {"7n", 7},      {"2M", 120 * TAKT_S},         {"1H", 3600 * TAKT_S},
                    {"0S", 0},      {"99999999H", UINT64_MAX / 2}};
        static const char *const bad[] = {"", "S", "1", "1s", "-1S", "123456789S", "1 S", "1SS"};
        char text[16];
        uint64_t ns;

        (void)state;
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                assert_int_equal(grpc_timeout_parse(good[i].text, strlen(good[i].text), &ns), 0);
                assert_true(ns == good[i].ns);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                assert_int_equal(grpc_timeout_parse(bad[i], strlen(bad[i]), &ns), -EINVAL);
        grpc_timeout_print(text, UINT64_MAX);
        assert_string_equal(text, "99999999m");
}

static void texts_survive_the_header(void **state)
{
        char encoded[64], decoded[64];

        (void)state;
        grpc_text_encode(encoded, sizeof encoded, "30 % zu viel für\n\"x\"");
        assert_string_equal(encoded, "30 %25 zu viel f%C3%BCr%0A\"x\"");
        grpc_text_decode(decoded, sizeof decoded, encoded, strlen(encoded));
        assert_string_equal(decoded, "30 % zu viel für \"x\"");
        grpc_text_encode(encoded, 5, "abc%");
        assert_string_equal(encoded, "abc");
        grpc_text_decode(decoded, sizeof decoded, "%", 1);
        assert_string_equal(decoded, "%");
        grpc_text_decode(decoded, 3, "abcdef", 6);
        assert_string_equal(decoded, "ab");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(messages_come_whole_from_pieces_of_any_size),
                cmocka_unit_test(memory_is_for_what_came),
                cmocka_unit_test(compressed_messages_are_none_of_ours),
                cmocka_unit_test(timeouts_have_eight_digits_and_a_unit),
                cmocka_unit_test(texts_survive_the_header),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
