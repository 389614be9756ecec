// What an API server sends is read the same however the stream was cut; of a pod's object only what is there
// is taken.
#include <errno.h>
#include <string.h>
#include "bytes.h"
#include "kube/http.h"
#include "kube/podlist.h"

struct seen {
        uint64_t sum;
        struct lines lines;
};

static int take_line(void *context, const char *line, size_t size)
{
        struct seen *seen = context;

        MUST(size > 0 && size <= 100 && !memchr(line, '\n', size));
        for (size_t i = 0; i < size; i++)
                seen->sum = seen->sum * 31 + (unsigned char)line[i];
        seen->sum = seen->sum * 31 + 997;
        return size == 7 ? -ECANCELED : 0;
}

static int take_body(void *context, const char *data, size_t size)
{
        struct seen *seen = context;

        return lines_feed(&seen->lines, data, size, take_line, seen);
}

// A sum over the lines of an answer's body; ret_end: its error, or status and state.
static uint64_t sum_of(const char *data, size_t size, size_t piece, ptrdiff_t *ret_end)
{
        struct seen seen = {0};
        struct http http;

        http_init(&http);
        lines_init(&seen.lines, 100);
        *ret_end = 0;
        for (size_t at = 0; at < size && *ret_end >= 0 && http.state != HTTP_DONE;) {
                size_t n = piece < size - at ? piece : size - at;
                ptrdiff_t taken = http_feed(&http, data + at, n, take_body, &seen);

                MUST(taken < 0 || ((size_t)taken <= n && (taken > 0 || http.state == HTTP_DONE)));
                *ret_end = taken < 0 ? taken : 0;
                at += taken < 0 ? 0 : (size_t)taken;
        }
        if (*ret_end >= 0)
                *ret_end = http.status * 10 + (int)http.state;
        lines_deinit(&seen.lines);
        return seen.sum;
}

static void read_pod(const char *data, size_t size)
{
        static struct slots slots = {.n_resources = 2,
                                     .resource = {{.name = "a/b"}, {.name = "takt.dev/gpu"}}};
        static struct podlist list = {.slots = &slots};
        json_t *object = json_loadb(data, size, 0, NULL);

        for (enum api_event e = API_LISTED; object && e <= API_DELETED; e++) {
                podlist_take(&list, e, object);
                MUST(list.n_pods <= 1);
                for (const struct pod *p = list.pod; p < list.pod + list.n_pods; p++) {
                        MUST(!p->uid[0] || p->wants[0] || p->wants[1]);
                        MUST(memchr(p->wrong, 0, sizeof p->wrong) && (!p->wrong[0] || !p->words.keys));
                        MUST(p->words.said.share_ppm <= CORE_PPM && p->words.said.weight <= 10000);
                }
        }
        json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        ptrdiff_t end, other;
        uint64_t sum = sum_of((const char *)data, size, size ? size : 1, &end);

        for (size_t piece = 1; piece < 9; piece++)
                MUST(sum_of((const char *)data, size, piece, &other) == sum && other == end);
        read_pod((const char *)data, size);
        return 0;
}
