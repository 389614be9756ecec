// Connections that carry lines: the control socket (JSON: register, status) and each tenant's requests.
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "node/node.h"
#include "wire/request.h"

static void answer(struct node *node, struct stream *stream, json_t *object)
{
        char *text = json_dumps(object, JSON_COMPACT);
        size_t size = text ? strlen(text) : 0;

        json_decref(object);
        if (text)
                text[size] = '\n'; // in place of the end: what is sent is counted
        answer_send(node, stream, text, size + 1);
}

static void answer_error(struct node *node, struct stream *stream, const char *kind, const char *message)
{
        answer(node, stream, json_pack("{s:b,s:s,s:s}", "ok", 0, "error", kind, "message", message));
}

static uint64_t number(json_t *object, const char *key)
{
        json_t *value = json_object_get(object, key);

        double n = json_is_number(value) ? json_number_value(value) : 0;

        return n > 0 ? n < (double)INT64_MAX ? (uint64_t)n : INT64_MAX : 0;
}

static uint32_t small_number(json_t *object, const char *key)
{
        return (uint32_t)takt_time_min(number(object, key), UINT32_MAX);
}

static int is_one_of(const char *text, const char *const *words)
{
        for (; text && *words; words++)
                if (!strcmp(text, *words))
                        return 1;
        return 0;
}

// Whatever of a contract is not understood was meant as a promise, and none is made: it is refused. Returns
// the member that is wrong, or NULL.
static const char *wrong_member(json_t *object)
{
        static const char *const numbers[] = {"weight",    "slo_ns",       "ttft_ns",  "itl_ns",
                                              "share_ppm", "peak_ppm",     "depth_ns", "burst_ns",
                                              "step_ns",   "memory_bytes", "device",   NULL};
        static const char *const classes[] = {"deadline", "fair", "idle", NULL};
        const char *key;
        json_t *value;

        json_object_foreach(object, key, value)
        {
                int ok = is_one_of(key, numbers) ? json_is_number(value) && json_number_value(value) >= 0
                         : !strcmp(key, "class") ? is_one_of(json_string_value(value), classes)
                         : !strcmp(key, "reclaim")
                                 ? json_is_integer(value)
                                 : !strcmp(key, "op") || (!strcmp(key, "name") && json_is_string(value));

                if (!ok)
                        return key;
        }
        return NULL;
}

static struct core_contract contract_of(json_t *object)
{
        const char *class = json_string_value(json_object_get(object, "class"));

        return (struct core_contract){
                .class = class && !strcmp(class, "fair")   ? CORE_CLASS_FAIR
                         : class && !strcmp(class, "idle") ? CORE_CLASS_IDLE
                                                           : CORE_CLASS_DEADLINE,
                .weight = small_number(object, "weight"),
                .slo_ns = number(object, "slo_ns"),
                .ttft_ns = number(object, "ttft_ns"),
                .itl_ns = number(object, "itl_ns"),
                .share_ppm = small_number(object, "share_ppm"),
                .peak_ppm = small_number(object, "peak_ppm"),
                .depth_ns = number(object, "depth_ns"),
                .burst_ns = number(object, "burst_ns"),
                .step_ns = number(object, "step_ns"),
                .memory_bytes = number(object, "memory_bytes"),
        };
}

// Bytes of a text, at most n, that end between two characters: half of one is no text that JSON can carry.
static size_t whole_characters(const char *text, size_t n)
{
        n = strnlen(text, n);
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
                n--;
        return n;
}

void refusal_explain(const struct node *node, const struct core_refusal *r, char *text, size_t size)
{
        const char *whose = r->seat < NODE_TENANTS_MAX && node->tenant[r->seat].used
                                    ? node->tenant[r->seat].name
                                    : "this one";

        switch (r->reason) {
        case CORE_REFUSAL_TIME:
                snprintf(text, size,
                         "the promise of %.*s would break: within %.1f ms, %.1f ms of device time would "
                         "be due (%.0f %% too much)",
                         (int)whole_characters(whose, 100), whose, (double)r->span_ns / 1e6,
                         (double)r->demand_ns / 1e6, 100 * ((double)r->demand_ns / (double)r->span_ns - 1));
                break;
        case CORE_REFUSAL_MEMORY:
                snprintf(text, size, "%.1f GiB of memory would be promised on a device of %.1f GiB",
                         (double)r->demand_bytes / (1 << 30), (double)r->capacity_bytes / (1 << 30));
                break;
        case CORE_REFUSAL_FULL:
                snprintf(text, size, "no seat is left on the device");
                break;
        default:
                snprintf(text, size,
                         "the contract contradicts itself or says too little: ttft goes with itl, or slo "
                         "alone; they need a share; peak is at least the share, depth at least the burst; a "
                         "step is 900ms at most");
        }
}

// Cuts a name to what a tenant keeps of it.
static void cut_name(char *to, size_t size, const char *name)
{
        size_t n = whole_characters(name, size - 1);

        memcpy(to, name, n);
        to[n] = 0;
}

static void do_register(struct node *node, struct stream *stream, json_t *object)
{
        struct core_contract contract = contract_of(object);
        struct core_refusal refusal = {0};
        const char *name = json_string_value(json_object_get(object, "name"));
        const char *wrong = wrong_member(object);
        json_t *reclaim = json_object_get(object, "reclaim");
        char called[sizeof node->tenant->name], text[256], path[128], requests[128];
        int index;

        if (wrong) {
                snprintf(text, sizeof text, "not understood: \"%.*s\"", (int)whole_characters(wrong, 100),
                         wrong);
                answer_error(node, stream, "usage", text);
                return;
        }
        cut_name(called, sizeof called, name ? name : "tenant");
        if (node->n_devices == 0) {
                answer_error(node, stream, "device", "no GPU was found on this machine");
                return;
        }
        if (core_contract_complete(&contract) < 0) {
                refusal.reason = CORE_REFUSAL_INVALID;
                index = -EDQUOT;
        } else {
                const struct tenant_order order = {
                        .name = called,
                        .contract = &contract,
                        .device = small_number(object, "device"),
                        .reclaim = json_is_integer(reclaim) ? (int32_t)json_integer_value(reclaim) : -1,
                        .uid = stream->uid,
                        .control = (int32_t)(stream - node->stream)};

                index = tenant_register(node, &order, &refusal);
        }
        if (index == -EDQUOT) {
                refusal_explain(node, &refusal, text, sizeof text);
                answer_error(node, stream, refusal.reason == CORE_REFUSAL_INVALID ? "contract" : "admission",
                             text);
        } else if (index == -EUSERS) {
                answer_error(node, stream, "admission", "no seat is left on this node");
        } else if (index == -ENODEV) {
                snprintf(text, sizeof text, "there is no device %u", small_number(object, "device"));
                answer_error(node, stream, "device", text);
        } else if (index < 0) {
                answer_error(node, stream, "system", strerror(-index));
        } else {
                snprintf(path, sizeof path, "%s/join", node->tenant[index].dir);
                snprintf(requests, sizeof requests, "%s/requests", node->tenant[index].dir);
                answer(node, stream,
                       json_pack("{s:b,s:i,s:s,s:s,s:s}", "ok", 1, "tenant", index, "dir",
                                 node->tenant[index].dir, "join", path, "requests", requests));
        }
}

static void control_line(struct node *node, struct stream *stream, const char *line, size_t size)
{
        json_t *object = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
        const char *op = json_string_value(json_object_get(object, "op"));

        if (!op)
                answer_error(node, stream, "usage", "not a JSON object with an \"op\"");
        else if (!strcmp(op, "register"))
                do_register(node, stream, object);
        else if (!strcmp(op, "status"))
                status_begin(node, stream);
        else
                answer_error(node, stream, "usage", "unknown op");
        json_decref(object);
}

static void request_line(struct node *node, const struct stream *stream, const char *line, size_t size)
{
        static const enum core_event_kind kinds[] = {0, CORE_EVENT_ARRIVED, CORE_EVENT_FIRST_TOKEN,
                                                     CORE_EVENT_FINISHED};
        struct takt_request_line request;

        if (takt_request_parse(line, size, &request) < 0 || !node->tenant[stream->tenant].seated)
                return;
        grant_tell(node,
                   (struct core_event){.kind = kinds[request.event],
                                       .seat = stream->tenant,
                                       .request = request.id,
                                       .deadline_ns = request.deadline_ns},
                   NULL);
}

// Takes whole lines off the buffer; what is too long for it is no line of ours.
static void take_lines(struct node *node, struct stream *stream)
{
        size_t from = 0;
        char *end;

        while (stream->used && (end = memchr(stream->text + from, '\n', stream->size - from))) {
                size_t size = (size_t)(end - stream->text) - from;

                if (stream->kind == STREAM_CONTROL)
                        control_line(node, stream, stream->text + from, size);
                else
                        request_line(node, stream, stream->text + from, size);
                from += size + 1;
        }
        stream->size -= from;
        memmove(stream->text, stream->text + from, stream->size);
        if (stream->size == sizeof stream->text)
                stream_drop(node, (uint32_t)(stream - node->stream));
}

// Of a flood only so much a turn: the others are heard in between. An order takes up to a millisecond: of
// those one a turn. The others, and what comes meanwhile, stay in the socket.
static ssize_t receive(struct stream *stream, int fd)
{
        size_t room = sizeof stream->text - stream->size;
        char *at = stream->text + stream->size, *end;
        ssize_t n;

        if (stream->kind == STREAM_CONTROL) {
                n = recv(fd, at, room, MSG_DONTWAIT | MSG_PEEK);
                if (n <= 0)
                        return n;
                end = memchr(at, '\n', (size_t)n);
                room = end ? (size_t)(end - at) + 1 : (size_t)n;
        }
        return recv(fd, at, room, MSG_DONTWAIT);
}

static void readable(struct node *node, struct watch *watch, uint32_t events)
{
        struct stream *stream = &node->stream[watch->index];
        ssize_t n;

        (void)events;
        if (stream->unsent || stream->telling) {
                answer_go_on(node, stream);
                return;
        }
        n = stream->is_cut ? 0 : receive(stream, watch->fd);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                stream_drop(node, watch->index);
                return;
        }
        stream->size += (size_t)n;
        take_lines(node, stream);
}

// Nobody has more connections than are free: so however many one asks for, there is some left for the next.
// Control connections are a user's. Request connections are a tenant's, and a user may have many of those:
// they leave a quarter of the places to control, and to each other seat its first.
static int may_have_more(const struct node *node, enum stream_kind kind, uint32_t tenant, uid_t uid)
{
        uint64_t seats[TAKT_BITS_WORDS(NODE_TENANTS_MAX)] = {0};
        uint32_t n_free = 0, n_own = 0, n_left;

        for (const struct stream *s = node->stream; s < node->stream + NODE_STREAMS_MAX; s++) {
                n_free += !s->used;
                n_own += s->used && s->kind == kind &&
                         (kind == STREAM_CONTROL ? s->uid == uid : s->tenant == tenant);
                if (s->used && s->kind == STREAM_REQUESTS)
                        takt_bits_add(seats, s->tenant);
        }
        if (kind == STREAM_CONTROL)
                return n_own < n_free;
        n_left = NODE_STREAMS_MAX / 4;
        if (n_own)
                n_left += NODE_TENANTS_MAX - takt_bits_count(seats, TAKT_BITS_WORDS(NODE_TENANTS_MAX));
        return n_own + n_left < n_free;
}

void stream_accept(struct node *node, struct watch *watch, uint32_t events)
{
        int fd = accept_at(node, watch->fd);
        int is_control = watch == &node->control;
        struct stream *stream = node->stream;
        uid_t uid = (uid_t)-1;

        (void)events;
        if (fd < 0)
                return;
        while (stream < node->stream + NODE_STREAMS_MAX && stream->used)
                stream++;
        if (peer_of(fd, &uid, NULL) < 0 ||
            (!is_control && !node->tenant[watch->index].by_door && uid != node->tenant[watch->index].uid &&
             uid != 0) ||
            !may_have_more(node, is_control ? STREAM_CONTROL : STREAM_REQUESTS, watch->index, uid)) {
                close(fd);
                return;
        }
        // What is not read is kept by us, within bounds, not by the kernel.
        if (is_control)
                setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){NODE_SEND_BUFFER}, sizeof(int));
        stream->used = 1;
        stream->kind = is_control ? STREAM_CONTROL : STREAM_REQUESTS;
        stream->tenant = watch->index;
        stream->uid = uid;
        stream->size = 0;
        stream->telling = STATUS_NONE;
        stream->is_cut = 0;
        watch_add_stream(node, &stream->watch, fd, (uint32_t)(stream - node->stream), readable);
}

void stream_drop(struct node *node, uint32_t index)
{
        struct stream *stream = &node->stream[index];

        watch_remove(node, &stream->watch);
        answer_drop(stream);
        stream->used = 0;
        if (stream->kind != STREAM_CONTROL)
                return;
        for (uint32_t i = 0; i < NODE_TENANTS_MAX; i++)
                if (node->tenant[i].used && node->tenant[i].control == (int32_t)index) {
                        node->tenant[i].control = -1;
                        tenant_unused(node, i);
                }
        node_rest(node);
}
