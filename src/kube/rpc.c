#include "kube/rpc.h"
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/time.h"
#include "kube/limits.h"

struct rpc_call {
        struct rpc *rpc;
        struct rpc_call *next;
        int32_t stream;
        uint8_t requested;       // server: the service was told of it; so it is told when it is gone
        uint8_t answering, over; // server: headers are out; the status is known
        uint8_t drained;         // the service is to be told so
        uint8_t is_grpc, is_post, whole;
        uint8_t status_seen, told; // client: the server named a status; the asker was told the end
        int status;
        uint64_t deadline_ns;
        const struct rpc_answer *answer;
        void *context;
        struct grpc_reader reader;
        uint8_t *out;
        size_t out_from, out_to, out_room;
        char method[KUBE_PATH_MAX], text[KUBE_TEXT_MAX];
        char encoded[3 * 128], number[12];
};

struct rpc {
        nghttp2_session *session;
        const struct rpc_service *service; // NULL: a client
        void *context;
        struct rpc_call *calls;
        uint32_t n_calls;
        uint64_t now_ns;
};

static nghttp2_nv pair(const char *name, const char *value)
{
        return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                            strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static struct rpc_call *call_new(struct rpc *rpc, int32_t stream, uint32_t max)
{
        struct rpc_call *call = rpc->n_calls < KUBE_CALLS_MAX ? calloc(1, sizeof *call) : NULL;

        if (!call)
                return NULL;
        call->rpc = rpc;
        call->stream = stream;
        call->deadline_ns = TAKT_NEVER;
        call->status = GRPC_UNKNOWN;
        call->reader.max = max;
        call->next = rpc->calls;
        rpc->calls = call;
        rpc->n_calls++;
        return call;
}

static void call_free(struct rpc_call *call)
{
        struct rpc_call **at = &call->rpc->calls;

        while (*at != call)
                at = &(*at)->next;
        *at = call->next;
        call->rpc->n_calls--;
        grpc_reader_free(&call->reader);
        free(call->out);
        free(call);
}

static void tell_end(struct rpc_call *call, int status, const char *text)
{
        if (call->told)
                return;
        call->told = 1;
        call->answer->end(call->context, status, text);
}

static void tell_gone(struct rpc_call *call)
{
        if (call->requested && call->rpc->service->gone)
                call->rpc->service->gone(call->rpc->context, call);
        call->requested = 0;
}

static int reset(struct rpc_call *call, uint32_t code)
{
        return nghttp2_submit_rst_stream(call->rpc->session, NGHTTP2_FLAG_NONE, call->stream, code);
}

// Data of a call, as the peer's windows allow; then the status as trailers, if this is the server.
static ssize_t give_data(nghttp2_session *session, int32_t stream, uint8_t *to, size_t size, uint32_t *flags,
                         nghttp2_data_source *source, void *context)
{
        struct rpc_call *call = source->ptr;
        size_t n = call->out_to - call->out_from;
        nghttp2_nv trailers[2];

        (void)context;
        n = n < size ? n : size;
        memcpy(to, call->out + call->out_from, n);
        call->out_from += n;
        if (call->out_from < call->out_to)
                return (ssize_t)n;
        call->out_from = call->out_to = 0;
        if (!call->rpc->service) {
                *flags |= NGHTTP2_DATA_FLAG_EOF;
        } else if (call->over) {
                *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
                trailers[0] = pair("grpc-status", call->number);
                trailers[1] = pair("grpc-message", call->encoded);
                nghttp2_submit_trailer(session, stream, trailers, call->encoded[0] ? 2 : 1);
        } else if (n == 0) {
                return NGHTTP2_ERR_DEFERRED;
        } else {
                call->drained = 1;
        }
        return (ssize_t)n;
}

static int put_out(struct rpc_call *call, const uint8_t *data, size_t size)
{
        size_t need = call->out_to + GRPC_PREFIX_SIZE + size;

        if (call->out_to - call->out_from + size > KUBE_UNSENT_MAX)
                return -ENOBUFS;
        if (need > call->out_room) {
                size_t room = need < 1024 ? 1024 : need * 3 / 2;
                uint8_t *out = realloc(call->out, room);

                if (!out)
                        return -ENOMEM;
                call->out = out;
                call->out_room = room;
        }
        grpc_prefix(call->out + call->out_to, (uint32_t)size);
        if (size)
                memcpy(call->out + call->out_to + GRPC_PREFIX_SIZE, data, size);
        call->out_to = need;
        return 0;
}

int rpc_send(struct rpc_call *call, const uint8_t *data, size_t size)
{
        const nghttp2_nv headers[] = {pair(":status", "200"), pair("content-type", "application/grpc")};
        nghttp2_data_provider provider = {{.ptr = call}, give_data};
        int error = call->over ? -EPIPE : put_out(call, data, size);

        if (error)
                return error;
        if (call->answering)
                return nghttp2_session_resume_data(call->rpc->session, call->stream), 0;
        call->answering = 1;
        return nghttp2_submit_response(call->rpc->session, call->stream, headers, 2, &provider) ? -EPIPE : 0;
}

void rpc_end(struct rpc_call *call, enum grpc_status status, const char *text)
{
        nghttp2_nv headers[4];

        if (call->over)
                return;
        call->over = 1;
        snprintf(call->number, sizeof call->number, "%d", (int)status);
        grpc_text_encode(call->encoded, sizeof call->encoded, text ? text : "");
        if (call->answering) {
                nghttp2_session_resume_data(call->rpc->session, call->stream);
                return;
        }
        headers[0] = pair(":status", "200");
        headers[1] = pair("content-type", "application/grpc");
        headers[2] = pair("grpc-status", call->number);
        headers[3] = pair("grpc-message", call->encoded);
        call->answering = 1;
        nghttp2_submit_response(call->rpc->session, call->stream, headers, call->encoded[0] ? 4 : 3, NULL);
}

size_t rpc_unsent(const struct rpc_call *call)
{
        return call->out_to - call->out_from;
}

// No gRPC at all: HTTP's own answer, as the specification asks.
static void not_grpc(struct rpc_call *call)
{
        const nghttp2_nv headers[] = {pair(":status", "415")};

        call->over = call->answering = 1;
        nghttp2_submit_response(call->rpc->session, call->stream, headers, 1, NULL);
}

static void failed_read(struct rpc_call *call, ptrdiff_t error)
{
        static const char *const texts[] = {
                "the message is too long", "the message is compressed: not supported", "out of memory",
                "the message is cut off", "more than one message: this method takes one"};
        int i = error == -EMSGSIZE  ? 0
                : error == -EPROTO  ? 1
                : error == -ENOMEM  ? 2
                : error == -EBADMSG ? 3
                                    : 4;
        enum grpc_status status = i == 0 || i == 2   ? GRPC_RESOURCE_EXHAUSTED
                                  : i == 1 || i == 4 ? GRPC_UNIMPLEMENTED
                                                     : GRPC_INTERNAL;

        grpc_reader_free(&call->reader);
        if (call->rpc->service) {
                rpc_end(call, status, texts[i]);
                return;
        }
        tell_end(call, status, texts[i]);
        reset(call, NGHTTP2_CANCEL);
}

// A server's call waits for the end of its request; a client's messages are passed on as they come.
static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t size,
                   void *context)
{
        struct rpc_call *call = nghttp2_session_get_stream_user_data(session, stream);

        (void)flags, (void)context;
        while (call && size && !call->over && !call->told) {
                int whole;
                ptrdiff_t n = call->whole ? -E2BIG : grpc_read(&call->reader, data, size, &whole);

                if (n < 0) {
                        failed_read(call, n);
                        break;
                }
                data += n;
                size -= (size_t)n;
                if (whole && call->rpc->service)
                        call->whole = 1;
                else if (whole)
                        call->answer->message(call->context, call->reader.data, call->reader.size);
        }
        return 0;
}

static int is(const uint8_t *text, size_t size, const char *word)
{
        return size == strlen(word) && !memcmp(text, word, size);
}

static int is_grpc_type(const uint8_t *value, size_t size)
{
        static const char type[] = "application/grpc";
        size_t n = sizeof type - 1;

        return size >= n && !memcmp(value, type, n) && (size == n || value[n] == '+' || value[n] == ';');
}

static void request_header(struct rpc_call *call, const uint8_t *name, size_t n, const uint8_t *value,
                           size_t size)
{
        uint64_t timeout_ns;

        if (is(name, n, ":path") && size < sizeof call->method)
                memcpy(call->method, value, size);
        else if (is(name, n, ":method"))
                call->is_post = is(value, size, "POST") != 0;
        else if (is(name, n, "content-type"))
                call->is_grpc = is_grpc_type(value, size) != 0;
        else if (is(name, n, "grpc-timeout") &&
                 grpc_timeout_parse((const char *)value, size, &timeout_ns) == 0)
                call->deadline_ns = call->rpc->now_ns + timeout_ns;
}

static void answer_header(struct rpc_call *call, const uint8_t *name, size_t n, const uint8_t *value,
                          size_t size)
{
        if (is(name, n, "grpc-status") && size > 0 && size < 4) {
                call->status = 0;
                for (size_t i = 0; i < size; i++)
                        call->status =
                                call->status * 10 + (value[i] >= '0' && value[i] <= '9' ? value[i] - '0' : 2);
                if (call->status > GRPC_UNAUTHENTICATED)
                        call->status = GRPC_UNKNOWN;
                call->status_seen = 1;
        } else if (is(name, n, "grpc-message")) {
                grpc_text_decode(call->text, sizeof call->text, (const char *)value, size);
        } else if (is(name, n, ":status") && !is(value, size, "200") && !call->status_seen) {
                snprintf(call->text, sizeof call->text, "HTTP status %.*s", (int)(size < 8 ? size : 8),
                         (const char *)value);
        }
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t n,
                     const uint8_t *value, size_t size, uint8_t flags, void *context)
{
        struct rpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

        (void)flags, (void)context;
        if (call && call->rpc->service)
                request_header(call, name, n, value, size);
        else if (call)
                answer_header(call, name, n, value, size);
        return 0;
}

static int on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
        struct rpc *rpc = context;
        struct rpc_call *call;

        if (!rpc->service || frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
                return 0;
        call = call_new(rpc, frame->hd.stream_id, KUBE_MESSAGE_MAX);
        if (!call)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; // RST_STREAM, and the others go on
        nghttp2_session_set_stream_user_data(session, call->stream, call);
        return 0;
}

static void request_ended(struct rpc_call *call)
{
        if (call->over)
                return;
        if (!call->whole) {
                failed_read(call, -EBADMSG);
                return;
        }
        call->requested = 1;
        call->rpc->service->request(call->rpc->context, call, call->method, call->reader.data,
                                    call->reader.size);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
        struct rpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        int is_headers = frame->hd.type == NGHTTP2_HEADERS;

        (void)context;
        if (!call || !call->rpc->service || (!is_headers && frame->hd.type != NGHTTP2_DATA))
                return 0;
        if (is_headers && frame->headers.cat == NGHTTP2_HCAT_REQUEST && !(call->is_grpc && call->is_post))
                not_grpc(call);
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
                request_ended(call);
        return 0;
}

// Whoever was answered before the end of its request shall not send the rest of it.
static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
        struct rpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

        (void)context;
        if (call && call->rpc->service && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
            (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
            !nghttp2_session_get_stream_remote_close(session, call->stream))
                reset(call, NGHTTP2_NO_ERROR);
        return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *context)
{
        struct rpc_call *call = nghttp2_session_get_stream_user_data(session, stream);

        (void)context;
        if (!call)
                return 0;
        if (call->rpc->service)
                tell_gone(call);
        else if (call->status_seen && !code && grpc_reader_idle(&call->reader))
                tell_end(call, call->status, call->text);
        else if (code == NGHTTP2_REFUSED_STREAM)
                tell_end(call, GRPC_UNAVAILABLE, "the server takes no more calls");
        else if (code == NGHTTP2_CANCEL)
                tell_end(call, GRPC_CANCELLED, "the server cancelled the call");
        else
                tell_end(call, GRPC_INTERNAL, call->text[0] ? call->text : "the server gave no status");
        call_free(call);
        return 0;
}

static struct rpc *rpc_new(const struct rpc_service *service, void *context)
{
        // The first is a server's only, the last a client's.
        const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, KUBE_CALLS_MAX},
                                                   {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 16384},
                                                   {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
        struct rpc *rpc = calloc(1, sizeof *rpc);
        nghttp2_session_callbacks *callbacks = NULL;
        int error;

        if (!rpc || nghttp2_session_callbacks_new(&callbacks))
                return free(rpc), NULL;
        rpc->service = service;
        rpc->context = context;
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
        error = service ? nghttp2_session_server_new(&rpc->session, callbacks, rpc)
                        : nghttp2_session_client_new(&rpc->session, callbacks, rpc);
        nghttp2_session_callbacks_del(callbacks);
        if (error || nghttp2_submit_settings(rpc->session, NGHTTP2_FLAG_NONE, settings + !service, 2))
                return rpc_free(rpc);
        return rpc;
}

struct rpc *rpc_server(const struct rpc_service *service, void *context)
{
        return rpc_new(service, context);
}

struct rpc *rpc_client(void)
{
        return rpc_new(NULL, NULL);
}

struct rpc *rpc_free(struct rpc *rpc)
{
        if (!rpc)
                return NULL;
        while (rpc->calls) {
                if (rpc->service)
                        tell_gone(rpc->calls);
                else
                        tell_end(rpc->calls, GRPC_UNAVAILABLE, "the connection was lost");
                call_free(rpc->calls);
        }
        nghttp2_session_del(rpc->session);
        free(rpc);
        return NULL;
}

int rpc_receive(struct rpc *rpc, const uint8_t *data, size_t size, uint64_t now_ns)
{
        rpc->now_ns = now_ns;
        return nghttp2_session_mem_recv(rpc->session, data, size) < 0 ? -EPROTO : 0;
}

// Drained calls are told of outside of nghttp2, as they will have more to send at once.
static int tell_drained(struct rpc *rpc)
{
        for (struct rpc_call *call = rpc->calls; call; call = call->next)
                if (call->drained) {
                        call->drained = 0;
                        if (call->requested && rpc->service->drained)
                                return rpc->service->drained(rpc->context, call), 1;
                }
        return 0;
}

ptrdiff_t rpc_transmit(struct rpc *rpc, const uint8_t **ret_data)
{
        ssize_t n;

        do {
                n = nghttp2_session_mem_send(rpc->session, ret_data);
        } while (n == 0 && tell_drained(rpc));
        return n < 0 ? -EPROTO : n;
}

int rpc_done(const struct rpc *rpc)
{
        return !nghttp2_session_want_read(rpc->session) && !nghttp2_session_want_write(rpc->session);
}

void rpc_shut(struct rpc *rpc)
{
        nghttp2_submit_goaway(rpc->session, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(rpc->session), NGHTTP2_NO_ERROR, NULL,
                              0);
}

uint64_t rpc_deadline(const struct rpc *rpc)
{
        uint64_t deadline_ns = TAKT_NEVER;

        for (const struct rpc_call *call = rpc->calls; call; call = call->next)
                deadline_ns = takt_time_min(deadline_ns, call->deadline_ns);
        return deadline_ns;
}

static void expire(struct rpc_call *call)
{
        call->deadline_ns = TAKT_NEVER;
        if (!call->rpc->service) {
                tell_end(call, GRPC_DEADLINE_EXCEEDED, "no answer in time");
                reset(call, NGHTTP2_CANCEL);
        } else if (call->answering) {
                reset(call, NGHTTP2_CANCEL);
        } else {
                rpc_end(call, GRPC_DEADLINE_EXCEEDED, "the deadline has passed");
        }
}

void rpc_expire(struct rpc *rpc, uint64_t now_ns)
{
        rpc->now_ns = now_ns;
        for (struct rpc_call *call = rpc->calls, *next; call; call = next) {
                next = call->next;
                if (call->deadline_ns <= now_ns)
                        expire(call);
        }
}

int rpc_ask(struct rpc *rpc, const char *method, const uint8_t *data, size_t size, uint64_t now_ns,
            uint64_t deadline_ns, const struct rpc_answer *answer, void *context, struct rpc_call **ret_call)
{
        char timeout[16];
        struct rpc_call *call = call_new(rpc, 0, KUBE_ANSWER_MAX);
        nghttp2_data_provider provider = {{.ptr = call}, give_data};
        nghttp2_nv headers[8] = {pair(":method", "POST"),   pair(":scheme", "http"),
                                 pair(":path", method),     pair(":authority", "localhost"),
                                 pair("te", "trailers"),    pair("content-type", "application/grpc"),
                                 pair("user-agent", "takt")};
        size_t n = 7;
        int error;

        if (!call)
                return -ENOBUFS;
        call->answer = answer;
        call->context = context;
        call->deadline_ns = deadline_ns;
        if (deadline_ns != TAKT_NEVER) {
                grpc_timeout_print(timeout, takt_time_since(deadline_ns, now_ns));
                headers[n++] = pair("grpc-timeout", timeout);
        }
        error = put_out(call, data, size);
        if (!error)
                call->stream = nghttp2_submit_request(rpc->session, NULL, headers, n, &provider, call);
        if (error || call->stream < 0)
                return call_free(call), error ? error : -EPIPE;
        if (ret_call)
                *ret_call = call;
        return 0;
}

void rpc_cancel(struct rpc_call *call)
{
        call->told = 1;
        reset(call, NGHTTP2_CANCEL);
}
