// Calls over HTTP/2: two peers of ours back to back, and ours against a peer that misbehaves.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <nghttp2/nghttp2.h>
#include "base/time.h"
#include "kube/limits.h"
#include "kube/rpc.h"

#define BIG (1 << 20)

// What the server saw, and the call it left open.
static struct served {
        int n_requests, n_gone, n_drained;
        size_t size;
        struct rpc_call *open;
} served;

static uint8_t big[BIG];

static void on_request(void *context, struct rpc_call *call, const char *method, const uint8_t *data,
                       size_t size)
{
        (void)context;
        served.n_requests++;
        served.size = size;
        if (!strcmp(method, "/t/Echo")) {
                assert_int_equal(rpc_send(call, data, size), 0);
                rpc_end(call, GRPC_OK, NULL);
        } else if (!strcmp(method, "/t/Fail")) {
                rpc_end(call, GRPC_RESOURCE_EXHAUSTED, "100 % zu viel: für \"x\"");
        } else {
                served.open = call;
        }
}

static void on_drained(void *context, struct rpc_call *call)
{
        (void)context;
        assert_ptr_equal(call, served.open);
        served.n_drained++;
}

static void on_gone(void *context, struct rpc_call *call)
{
        (void)context;
        served.n_gone++;
        if (call == served.open)
                served.open = NULL;
}

static const struct rpc_service service = {on_request, on_drained, on_gone};

struct heard {
        int n_messages, n_ends, status;
        size_t size;
        char text[256];
};

static void on_message(void *context, const uint8_t *data, size_t size)
{
        struct heard *heard = context;

        heard->n_messages++;
        heard->size = size;
        assert_true(size == 0 || data[size - 1] == big[size - 1] || size != BIG);
}

static void on_end(void *context, int status, const char *text)
{
        struct heard *heard = context;

        heard->n_ends++;
        heard->status = status;
        snprintf(heard->text, sizeof heard->text, "%s", text);
}

static const struct rpc_answer answer = {on_message, on_end};

struct peers {
        struct rpc *server, *client;
};

static int set_up(void **state)
{
        static struct peers peers;

        served = (struct served){0};
        peers = (struct peers){rpc_server(&service, NULL), rpc_client()};
        for (int i = 0; i < BIG; i++)
                big[i] = (uint8_t)(i * 7);
        *state = &peers;
        return peers.server && peers.client ? 0 : -1;
}

static int tear_down(void **state)
{
        struct peers *peers = *state;

        rpc_free(peers->client);
        rpc_free(peers->server);
        assert_int_equal(served.n_gone, served.n_requests);
        return 0;
}

static int carry(struct rpc *from, struct rpc *to, uint64_t now_ns)
{
        const uint8_t *data;
        ptrdiff_t n;
        int any = 0;

        while ((n = rpc_transmit(from, &data)) > 0) {
                any = 1;
                for (ptrdiff_t at = 0; at < n; at += 1000) // in pieces, as a socket may
                        rpc_receive(to, data + at, (size_t)(n - at < 1000 ? n - at : 1000), now_ns);
        }
        return any;
}

// Until neither has anything to say.
static void talk(struct peers *peers, uint64_t now_ns)
{
        while (carry(peers->client, peers->server, now_ns) | carry(peers->server, peers->client, now_ns))
                ;
}

static struct heard ask(struct peers *peers, const char *method, const void *data, size_t size)
{
        struct heard heard = {0};

        assert_int_equal(rpc_ask(peers->client, method, data, size, 0, TAKT_NEVER, &answer, &heard, NULL), 0);
        talk(peers, 0);
        return heard;
}

static void a_message_comes_back(void **state)
{
        struct heard heard = ask(*state, "/t/Echo", "hello", 5);

        assert_int_equal(heard.n_messages, 1);
        assert_int_equal(heard.size, 5);
        assert_int_equal(heard.n_ends, 1);
        assert_int_equal(heard.status, GRPC_OK);
        heard = ask(*state, "/t/Echo", "", 0);
        assert_int_equal(heard.n_messages, 1);
        assert_int_equal(heard.size, 0);
}

static void a_megabyte_comes_back_through_all_windows(void **state)
{
        struct heard heard = ask(*state, "/t/Echo", big, BIG);

        assert_int_equal(served.size, BIG);
        assert_int_equal(heard.size, BIG);
        assert_int_equal(heard.status, GRPC_OK);
}

static void an_error_is_only_trailers_and_keeps_its_words(void **state)
{
        struct heard heard = ask(*state, "/t/Fail", "x", 1);

        assert_int_equal(heard.n_messages, 0);
        assert_int_equal(heard.status, GRPC_RESOURCE_EXHAUSTED);
        assert_string_equal(heard.text, "100 % zu viel: für \"x\"");
}

static void a_message_too_long_is_refused(void **state)
{
        uint8_t *data = calloc(1, KUBE_MESSAGE_MAX + 1);
        struct heard heard = {0};
        struct peers *peers = *state;

        // The client's own queue is as long as a server's message may be: so by one call less its prefix.
        assert_int_equal(rpc_ask(peers->client, "/t/Echo", data, KUBE_MESSAGE_MAX + 1, 0, TAKT_NEVER, &answer,
                                 &heard, NULL),
                         -ENOBUFS);
        free(data);
}

static void a_stream_goes_on_until_it_ends(void **state)
{
        struct peers *peers = *state;
        struct heard heard = {0};

        assert_int_equal(rpc_ask(peers->client, "/t/Watch", NULL, 0, 0, TAKT_NEVER, &answer, &heard, NULL),
                         0);
        talk(peers, 0);
        assert_non_null(served.open);
        for (int i = 1; i <= 3; i++) {
                assert_int_equal(rpc_send(served.open, big, 100000), 0);
                talk(peers, 0);
                assert_int_equal(heard.n_messages, i);
                assert_int_equal(rpc_unsent(served.open), 0);
                assert_int_equal(served.n_drained, i);
        }
        rpc_end(served.open, GRPC_OK, NULL);
        talk(peers, 0);
        assert_null(served.open);
        assert_int_equal(heard.n_ends, 1);
        assert_int_equal(heard.status, GRPC_OK);
}

static void a_status_that_there_is_not_is_unknown(void **state)
{
        struct peers *peers = *state;
        const int said[] = {16, 17, 99, 999}, told[] = {16, GRPC_UNKNOWN, GRPC_UNKNOWN, GRPC_UNKNOWN};

        for (int i = 0; i < 4; i++) {
                struct heard heard = {0};

                assert_int_equal(
                        rpc_ask(peers->client, "/t/Watch", NULL, 0, 0, TAKT_NEVER, &answer, &heard, NULL), 0);
                talk(peers, 0);
                rpc_end(served.open, (enum grpc_status)said[i], "why");
                talk(peers, 0);
                assert_int_equal(heard.n_ends, 1);
                assert_int_equal(heard.status, told[i]);
        }
}

static void a_cancelled_call_is_gone_for_the_server(void **state)
{
        struct peers *peers = *state;
        struct heard heard = {0};
        struct rpc_call *call;

        rpc_ask(peers->client, "/t/Watch", NULL, 0, 0, TAKT_NEVER, &answer, &heard, &call);
        talk(peers, 0);
        rpc_cancel(call);
        talk(peers, 0);
        assert_null(served.open);
        assert_int_equal(served.n_gone, 1);
        assert_int_equal(heard.n_ends, 0);
}

static void deadlines_end_a_call_at_either_side(void **state)
{
        struct peers *peers = *state;
        struct heard first = {0}, second = {0};

        rpc_ask(peers->client, "/t/Watch", NULL, 0, 1000, 1000 + TAKT_S, &answer, &first, NULL);
        talk(peers, 1000);
        assert_true(rpc_deadline(peers->client) == 1000 + TAKT_S);
        assert_true(rpc_deadline(peers->server) >= 1000 + TAKT_S &&
                    rpc_deadline(peers->server) < 1000 + 2 * TAKT_S);
        rpc_expire(peers->client, 999 + TAKT_S);
        assert_int_equal(first.n_ends, 0);
        rpc_expire(peers->client, 1000 + TAKT_S);
        assert_int_equal(first.status, GRPC_DEADLINE_EXCEEDED);
        talk(peers, 1000 + TAKT_S);
        assert_null(served.open);
        rpc_ask(peers->client, "/t/Watch", NULL, 0, 1000, 1000 + TAKT_S, &answer, &second, NULL);
        talk(peers, 1000);
        rpc_expire(peers->server, 1000 + 2 * TAKT_S);
        talk(peers, 1000);
        assert_int_equal(second.n_ends, 1);
        assert_int_equal(second.status, GRPC_DEADLINE_EXCEEDED);
        assert_true(rpc_deadline(peers->client) == TAKT_NEVER);
}

static void a_lost_connection_ends_every_call_once(void **state)
{
        struct peers *peers = *state;
        struct heard heard[3] = {0};

        for (int i = 0; i < 3; i++)
                rpc_ask(peers->client, "/t/Watch", NULL, 0, 0, TAKT_NEVER, &answer, &heard[i], NULL);
        carry(peers->client, peers->server, 0);
        peers->client = rpc_free(peers->client);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(heard[i].n_ends, 1);
                assert_int_equal(heard[i].status, GRPC_UNAVAILABLE);
        }
        peers->server = rpc_free(peers->server);
        assert_int_equal(served.n_gone, 3);
}

static void after_goaway_what_runs_may_end(void **state)
{
        struct peers *peers = *state;
        struct heard heard = {0};

        rpc_ask(peers->client, "/t/Watch", NULL, 0, 0, TAKT_NEVER, &answer, &heard, NULL);
        talk(peers, 0);
        rpc_shut(peers->server);
        talk(peers, 0);
        assert_false(rpc_done(peers->server));
        assert_int_equal(rpc_ask(peers->client, "/t/Echo", NULL, 0, 0, TAKT_NEVER, &answer, &heard, NULL), 0);
        talk(peers, 0);
        assert_int_equal(heard.status, GRPC_UNAVAILABLE);
        heard = (struct heard){0};
        rpc_end(served.open, GRPC_OK, NULL);
        talk(peers, 0);
        assert_int_equal(heard.n_ends, 1);
        assert_true(rpc_done(peers->server));
}

static void calls_are_bounded(void **state)
{
        struct peers *peers = *state;
        struct heard heard[KUBE_CALLS_MAX + 1] = {0};

        for (int i = 0; i < KUBE_CALLS_MAX; i++)
                assert_int_equal(
                        rpc_ask(peers->client, "/t/Watch", NULL, 0, 0, TAKT_NEVER, &answer, &heard[i], NULL),
                        0);
        assert_int_equal(rpc_ask(peers->client, "/t/Watch", NULL, 0, 0, TAKT_NEVER, &answer, &heard[0], NULL),
                         -ENOBUFS);
        talk(peers, 0);
        assert_int_equal(served.n_requests, KUBE_CALLS_MAX);
        peers->client = rpc_free(peers->client);
        peers->server = rpc_free(peers->server);
}

// A client of nghttp2's, which sends what the test says.
struct raw {
        nghttp2_session *session;
        struct rpc *server;
        const uint8_t *data;
        size_t size;
        int keep_open; // do not end the request
        char status[8], grpc_status[8];
        size_t received;
        uint32_t closed_by;
        int closed, n_pongs;
};

static ssize_t raw_data(nghttp2_session *session, int32_t stream, uint8_t *to, size_t size, uint32_t *flags,
                        nghttp2_data_source *source, void *context)
{
        struct raw *raw = context;
        size_t n = raw->size < size ? raw->size : size;

        (void)session, (void)stream, (void)source;
        if (n == 0 && raw->keep_open)
                return NGHTTP2_ERR_DEFERRED;
        memcpy(to, raw->data, n);
        raw->data += n;
        raw->size -= n;
        if (!raw->size && !raw->keep_open)
                *flags |= NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)n;
}

static int raw_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t n,
                      const uint8_t *value, size_t size, uint8_t flags, void *context)
{
        struct raw *raw = context;

        (void)session, (void)frame, (void)flags;
        if (n == 7 && !memcmp(name, ":status", 7))
                snprintf(raw->status, sizeof raw->status, "%.*s", (int)size, (const char *)value);
        if (n == 11 && !memcmp(name, "grpc-status", 11))
                snprintf(raw->grpc_status, sizeof raw->grpc_status, "%.*s", (int)size, (const char *)value);
        return 0;
}

static int raw_chunk(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
                     size_t size, void *context)
{
        (void)session, (void)flags, (void)stream, (void)data;
        ((struct raw *)context)->received += size;
        return 0;
}

static int raw_close(nghttp2_session *session, int32_t stream, uint32_t code, void *context)
{
        struct raw *raw = context;

        (void)session, (void)stream;
        raw->closed = 1;
        raw->closed_by = code;
        return 0;
}

static int raw_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
        (void)session;
        ((struct raw *)context)->n_pongs += frame->hd.type == NGHTTP2_PING &&
                                            frame->hd.flags & NGHTTP2_FLAG_ACK &&
                                            !memcmp(frame->ping.opaque_data, "12345678", 8);
        return 0;
}

static void raw_talk(struct raw *raw)
{
        const uint8_t *data;
        ssize_t n, m;

        do {
                n = nghttp2_session_mem_send(raw->session, &data);
                if (n > 0)
                        rpc_receive(raw->server, data, (size_t)n, 0);
                m = rpc_transmit(raw->server, &data);
                if (m > 0)
                        nghttp2_session_mem_recv(raw->session, data, (size_t)m);
        } while (n > 0 || m > 0);
}

static void raw_open(struct raw *raw, struct rpc *server, uint32_t window)
{
        const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window}};
        nghttp2_session_callbacks *callbacks;
        nghttp2_option *option;

        *raw = (struct raw){.server = server};
        nghttp2_session_callbacks_new(&callbacks);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, raw_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, raw_chunk);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, raw_close);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, raw_frame);
        nghttp2_option_new(&option);
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_session_client_new2(&raw->session, callbacks, raw, option);
        nghttp2_option_del(option);
        nghttp2_session_callbacks_del(callbacks);
        nghttp2_submit_settings(raw->session, 0, settings, 1);
}

#define NV(n, v)                                                                                             \
        {                                                                                                    \
                (uint8_t *)(n), (uint8_t *)(v), strlen(n), strlen(v), 0                                      \
        }

static int32_t raw_ask(struct raw *raw, const char *verb, const char *type, const char *method,
                       const void *data, size_t size, int keep_open)
{
        nghttp2_nv headers[] = {NV(":method", verb),  NV(":scheme", "http"),
                                NV(":path", method),  NV(":authority", "%2Fsome%2Fpath"),
                                NV("te", "trailers"), NV("content-type", type)};
        nghttp2_data_provider provider = {.read_callback = raw_data};
        int32_t stream;

        raw->data = data;
        raw->size = size;
        raw->keep_open = keep_open;
        raw->closed = 0;
        raw->status[0] = raw->grpc_status[0] = 0;
        stream = nghttp2_submit_request(raw->session, NULL, headers, 6, &provider, NULL);
        raw_talk(raw);
        return stream;
}

static void what_is_no_grpc_is_told_so(void **state)
{
        struct peers *peers = *state;
        struct raw raw;

        raw_open(&raw, peers->server, 65535);
        raw_ask(&raw, "POST", "text/html", "/t/Echo", "x", 1, 0);
        assert_string_equal(raw.status, "415");
        raw_ask(&raw, "GET", "application/grpc", "/t/Echo", "", 0, 0);
        assert_string_equal(raw.status, "415");
        raw_ask(&raw, "POST", "application/grpc-web", "/t/Echo", "", 0, 0);
        assert_string_equal(raw.status, "415");
        raw_ask(&raw, "POST", "application/grpc+proto", "/t/Echo", "\0\0\0\0\1x", 6, 0);
        assert_string_equal(raw.grpc_status, "0");
        assert_int_equal(served.n_requests, 1);
        nghttp2_session_del(raw.session);
}

static void broken_messages_are_refused_and_the_others_go_on(void **state)
{
        static const struct {
                const char *data;
                size_t size;
                const char *status;
        } broken[] = {
                {"", 0, "13"},                        // none at all
                {"\0\0\0\0\5abc", 8, "13"},           // cut off
                {"\0\0\0", 3, "13"},                  // in its prefix
                {"\0\xff\xff\xff\xff...", 8, "8"},    // absurdly long
                {"\1\0\0\0\1x", 6, "12"},             // compressed
                {"\0\0\0\0\1x\0\0\0\0\1y", 12, "12"}, // two
        };
        struct peers *peers = *state;
        struct raw raw;

        raw_open(&raw, peers->server, 65535);
        for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
                raw_ask(&raw, "POST", "application/grpc", "/t/Echo", broken[i].data, broken[i].size, 0);
                assert_string_equal(raw.status, "200");
                assert_string_equal(raw.grpc_status, broken[i].status);
        }
        assert_int_equal(served.n_requests, 0);
        raw_ask(&raw, "POST", "application/grpc", "/t/Echo", "\0\0\0\0\1x", 6, 0);
        assert_string_equal(raw.grpc_status, "0");
        // A sender that goes on after its refusal is stopped.
        raw_ask(&raw, "POST", "application/grpc", "/t/Echo", "\1\0\0\0\1x", 6, 1);
        assert_true(raw.closed);
        assert_int_equal(raw.closed_by, NGHTTP2_NO_ERROR);
        nghttp2_session_del(raw.session);
}

static void a_reset_within_a_message_leaves_nothing(void **state)
{
        struct peers *peers = *state;
        struct raw raw;
        int32_t stream;

        raw_open(&raw, peers->server, 65535);
        stream = raw_ask(&raw, "POST", "application/grpc", "/t/Echo", "\0\0\0\0\5abc", 8, 1);
        assert_false(raw.closed);
        nghttp2_submit_rst_stream(raw.session, 0, stream, NGHTTP2_CANCEL);
        raw_talk(&raw);
        assert_true(raw.closed);
        assert_int_equal(served.n_requests, 0);
        stream = raw_ask(&raw, "POST", "application/grpc", "/t/Watch", "\0\0\0\0\0", 5, 0);
        assert_int_equal(rpc_send(served.open, big, 50000), 0);
        nghttp2_submit_rst_stream(raw.session, 0, stream, NGHTTP2_CANCEL);
        raw_talk(&raw);
        assert_null(served.open);
        nghttp2_session_del(raw.session);
}

static void a_window_of_nothing_holds_and_the_queue_is_bounded(void **state)
{
        struct peers *peers = *state;
        struct raw raw;
        int32_t stream;

        raw_open(&raw, peers->server, 0);
        stream = raw_ask(&raw, "POST", "application/grpc", "/t/Watch", "\0\0\0\0\0", 5, 0);
        assert_int_equal(rpc_send(served.open, big, 1000), 0);
        raw_talk(&raw);
        assert_int_equal(raw.received, 0);
        assert_int_equal(rpc_unsent(served.open), 1005);
        assert_int_equal(served.n_drained, 0);
        nghttp2_submit_window_update(raw.session, 0, stream, 100);
        raw_talk(&raw);
        assert_int_equal(raw.received, 100);
        while (rpc_send(served.open, big, BIG) == 0)
                ;
        assert_true(rpc_unsent(served.open) <= KUBE_UNSENT_MAX + 64);
        nghttp2_submit_window_update(raw.session, 0, stream, 1 << 24);
        nghttp2_submit_window_update(raw.session, 0, 0, 1 << 24);
        raw_talk(&raw);
        assert_int_equal(rpc_unsent(served.open), 0);
        assert_int_equal(served.n_drained, 1);
        nghttp2_submit_rst_stream(raw.session, 0, stream, NGHTTP2_CANCEL);
        raw_talk(&raw);
        nghttp2_session_del(raw.session);
}

static void a_ping_is_answered(void **state)
{
        struct peers *peers = *state;
        struct raw raw;

        raw_open(&raw, peers->server, 65535);
        raw_talk(&raw);
        nghttp2_submit_ping(raw.session, 0, (const uint8_t *)"12345678");
        raw_talk(&raw);
        assert_int_equal(raw.n_pongs, 1);
        nghttp2_session_del(raw.session);
}

static void what_is_no_http_is_an_error(void **state)
{
        struct peers *peers = *state;
        const char *text = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

        assert_int_equal(rpc_receive(peers->server, (const uint8_t *)text, strlen(text), 0), -EPROTO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_message_comes_back),
                TEST(a_megabyte_comes_back_through_all_windows),
                TEST(an_error_is_only_trailers_and_keeps_its_words),
                TEST(a_message_too_long_is_refused),
                TEST(a_stream_goes_on_until_it_ends),
                TEST(a_status_that_there_is_not_is_unknown),
                TEST(a_cancelled_call_is_gone_for_the_server),
                TEST(deadlines_end_a_call_at_either_side),
                TEST(a_lost_connection_ends_every_call_once),
                TEST(after_goaway_what_runs_may_end),
                TEST(calls_are_bounded),
                TEST(what_is_no_grpc_is_told_so),
                TEST(broken_messages_are_refused_and_the_others_go_on),
                TEST(a_reset_within_a_message_leaves_nothing),
                TEST(a_window_of_nothing_holds_and_the_queue_is_bounded),
                TEST(a_ping_is_answered),
                TEST(what_is_no_http_is_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
