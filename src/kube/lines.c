#include "kube/lines.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void lines_init(struct lines *lines, size_t max)
{
        *lines = (struct lines){.max = max};
}

void lines_deinit(struct lines *lines)
{
        free(lines->text);
        lines_init(lines, lines->max);
}

static int keep(struct lines *lines, const char *data, size_t size)
{
        size_t want = lines->size ? lines->size : 4096;
        char *more;

        if (lines->skipping || size > lines->max - lines->n) {
                free(lines->text);
                lines->text = NULL;
                lines->n = lines->size = 0;
                lines->skipping = 1;
                return 0;
        }
        while (want < lines->n + size)
                want *= 2;
        if (want != lines->size) {
                more = realloc(lines->text, want);
                if (!more)
                        return -ENOMEM;
                lines->text = more;
                lines->size = want;
        }
        memcpy(lines->text + lines->n, data, size);
        lines->n += size;
        return 0;
}

// The line's memory goes with it: the next one may be short.
static int end_line(struct lines *lines, lines_take *take, void *context)
{
        struct lines now = *lines;
        int error = 0;

        lines->text = NULL;
        lines->n = lines->size = lines->skipping = 0;
        lines->n_skipped += now.skipping;
        if (!now.skipping && now.n)
                error = take(context, now.text, now.n);
        free(now.text);
        return error;
}

int lines_feed(struct lines *lines, const char *data, size_t size, lines_take *take, void *context)
{
        for (size_t at = 0; at < size;) {
                const char *end = memchr(data + at, '\n', size - at);
                size_t n = end ? (size_t)(end - data) - at : size - at;
                int error = keep(lines, data + at, n);

                if (!error && end)
                        error = end_line(lines, take, context);
                if (error)
                        return error;
                at += n + (end != NULL);
        }
        return 0;
}
