// An answer is the same however the stream was cut; what is no answer is refused, and a line has an end.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kube/http.h"
#include "kube/lines.h"

static char body[4096];
static size_t n_body;

static int take(void *context, const char *data, size_t size)
{
        size_t room = sizeof body - 1 - n_body, n = size < room ? size : room;

        (void)context;
        memcpy(body + n_body, data, n);
        n_body += n;
        return 0;
}

// Feeds text in pieces; returns how much was taken, or the error.
static ptrdiff_t feed(struct http *http, const char *text, size_t size, size_t piece)
{
        size_t at = 0;

        http_init(http);
        n_body = 0;
        while (at < size) {
                size_t n = piece < size - at ? piece : size - at;
                ptrdiff_t taken = http_feed(http, text + at, n, take, NULL);

                if (taken < 0)
                        return taken;
                at += (size_t)taken;
                if ((size_t)taken < n)
                        break;
        }
        body[n_body] = 0;
        return (ptrdiff_t)at;
}

static void expect(const char *text, int status, const char *said, int closes)
{
        struct http http;

        for (size_t piece = 1; piece <= strlen(text); piece++) {
                assert_int_equal(feed(&http, text, strlen(text), piece), strlen(text));
                assert_int_equal(http_end(&http), 0);
                assert_int_equal(http.status, status);
                assert_int_equal(http.closes, closes);
                assert_string_equal(body, said);
        }
}

static void answers(void **state)
{
        (void)state;
        expect("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", 0);
        expect("HTTP/1.1 201 Created\ncontent-length:2\nX: y\n\nok", 201, "ok", 0);
        expect("HTTP/1.1 204\r\n\r\n", 204, "", 0);
        expect("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 200, "", 1);
        expect("HTTP/1.0 200 OK\r\n\r\nto the end", 200, "to the end", 1);
        expect("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\n\r\nx", 403, "x",
               0);
        expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n "
               "world\r\n0\r\nT: x\r\n\r\n",
               200, "hello world", 0);
}

static void two_in_a_row(void **state)
{
        static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404";
        struct http http;

        (void)state;
        assert_int_equal(feed(&http, text, sizeof text - 1, 1000), sizeof text - 1 - 12);
        assert_int_equal(http.state, HTTP_DONE);
}

static void cut_short(void **state)
{
        static const char *const texts[] = {
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                "HTTP/1.1 200 OK\r\nConte", "HTTP", ""};
        struct http http;

        (void)state;
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
                assert_int_equal(feed(&http, texts[i], strlen(texts[i]), 3), strlen(texts[i]));
                assert_int_equal(http_end(&http), -EPIPE);
        }
}

static void nonsense(void **state)
{
        static const char *const texts[] = {
                "SSH-2.0-OpenSSH_9\r\n",
                "HTTP/2 200 OK\r\n",
                "HTTP/1.1 20 OK\r\n",
                "HTTP/1.1 2000 OK\r\n",
                "HTTP/1.1 099 OK\r\n",
                "HTTP/1.1 200 OK\r\nno colon\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        };
        struct http http;
        char many[8192] = "HTTP/1.1 200 OK\r\n";

        (void)state;
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
                for (size_t piece = 1; piece < 40; piece += 38)
                        assert_int_equal(feed(&http, texts[i], strlen(texts[i]), piece), -EBADMSG);
        assert_int_equal(feed(&http, "HTTP/1.1 200\0 OK\r\n", 18, 18), -EBADMSG);
        for (int i = 0; i <= HTTP_HEADERS_MAX; i++)
                strcat(many, "X: y\r\n");
        assert_int_equal(feed(&http, many, strlen(many), 100), -EBADMSG);
}

static void long_header_is_cut(void **state)
{
        char text[HTTP_LINE_MAX * 3];
        struct http http;
        int n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nX: %*s\r\nContent-Length: 2\r\n\r\nok",
                         HTTP_LINE_MAX + 500, "y");

        (void)state;
        assert_int_equal(feed(&http, text, (size_t)n, 700), n);
        assert_string_equal(body, "ok");
}

// Text of a head, and so many times another.
static ptrdiff_t feed_many(const char *head, const char *more, size_t times)
{
        static char text[1 << 20];
        size_t n = (size_t)sprintf(text, "%s", head);
        struct http http;

        for (size_t i = 0; i < times; i++)
                n += (size_t)sprintf(text + n, "%s", more);
        return feed(&http, text, n, 16384) == (ptrdiff_t)n ? 0 : -EBADMSG;
}

static void what_is_no_body_has_an_end(void **state)
{
        static const char chunks[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

        (void)state;
        assert_int_equal(feed_many("HTTP/1.1 200 OK\r\nX: ", "y", HTTP_HEAD_MAX), -EBADMSG);
        assert_int_equal(feed_many("", "HTTP/1.1 100 Continue\r\n\r\n", HTTP_HEAD_MAX / 25 + 1), -EBADMSG);
        assert_int_equal(feed_many(chunks, "0", HTTP_HEAD_MAX), -EBADMSG);
        assert_int_equal(feed_many(chunks, "1\r\na\r\n", HTTP_HEAD_MAX), 0); // of many chunks each
}

static char seen[256];

static int take_line(void *context, const char *line, size_t size)
{
        (void)context;
        snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "[%.*s]", (int)size, line);
        return size == 4 && !memcmp(line, "stop", 4) ? -EBADMSG : 0;
}

static void lines_in_pieces(void **state)
{
        static const char text[] = "one\n\nthree\nfar too long a line\nfive\nsi";
        struct lines lines;

        (void)state;
        for (size_t piece = 1; piece < sizeof text; piece++) {
                lines_init(&lines, 10);
                seen[0] = 0;
                for (size_t at = 0; at < sizeof text - 1; at += piece)
                        assert_int_equal(
                                lines_feed(&lines, text + at,
                                           piece < sizeof text - 1 - at ? piece : sizeof text - 1 - at,
                                           take_line, NULL),
                                0);
                assert_string_equal(seen, "[one][three][five]");
                assert_int_equal(lines.n_skipped, 1);
                assert_int_equal(lines.n, 2);
                lines_deinit(&lines);
        }
        seen[0] = 0;
        assert_int_equal(lines_feed(&lines, "a\nstop\nb\n", 9, take_line, NULL), -EBADMSG);
        assert_string_equal(seen, "[a][stop]");
        lines_deinit(&lines);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answers),
                cmocka_unit_test(two_in_a_row),
                cmocka_unit_test(cut_short),
                cmocka_unit_test(nonsense),
                cmocka_unit_test(long_header_is_cut),
                cmocka_unit_test(what_is_no_body_has_an_end),
                cmocka_unit_test(lines_in_pieces),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
