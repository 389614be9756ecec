#include "kube/http.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void http_init(struct http *http)
{
        memset(http, 0, sizeof *http);
}

// "HTTP/1.1 200 OK"
static int take_status(struct http *http)
{
        const char *line = http->line;

        if (strncmp(line, "HTTP/1.", 7) || (line[7] != '0' && line[7] != '1') || line[8] != ' ' ||
            strspn(line + 9, "0123456789") != 3 || (line[12] && line[12] != ' '))
                return -EBADMSG;
        http->status = atoi(line + 9);
        http->closes = line[7] == '0';
        http->state = HTTP_HEADERS;
        return http->status < 100 ? -EBADMSG : 0;
}

// Digits only, and few enough to count with. Returns -EBADMSG for another.
static int number_of(const char *text, int base, uint64_t *ret)
{
        const char *digits = base == 16 ? "0123456789abcdefABCDEF" : "0123456789";
        size_t n = strspn(text, digits);

        if (n == 0 || n > 15 || (text[n] && !strchr("; \t", text[n])))
                return -EBADMSG;
        *ret = strtoull(text, NULL, base);
        return 0;
}

static int take_header(struct http *http)
{
        char *value = strchr(http->line, ':');
        uint64_t length;

        if (!value)
                return -EBADMSG;
        *value++ = 0;
        value += strspn(value, " \t");
        if (!strcasecmp(http->line, "content-length")) {
                // Two lengths are a smuggler's.
                if (number_of(value, 10, &length) < 0 || (http->sized && length != http->left))
                        return -EBADMSG;
                http->left = length;
                http->sized = 1;
        } else if (!strcasecmp(http->line, "transfer-encoding")) {
                if (strcasecmp(value, "chunked"))
                        return -EBADMSG;
                http->chunked = 1;
        } else if (!strcasecmp(http->line, "connection")) {
                http->closes |= strcasestr(value, "close") != NULL;
        }
        return 0;
}

// After the headers' empty line.
static void begin_body(struct http *http)
{
        if (http->status < 200) // an interim answer: the real one follows
                *http = (struct http){.n_head = http->n_head};
        else if (http->status == 204 || http->status == 304)
                http->state = HTTP_DONE;
        else if (http->chunked)
                http->state = HTTP_CHUNK;
        else if (http->sized)
                http->state = http->left ? HTTP_BODY : HTTP_DONE;
        else {
                http->state = HTTP_BODY;
                http->left = UINT64_MAX;
                http->closes = 1;
        }
}

static int take_line(struct http *http)
{
        switch (http->state) {
        case HTTP_STATUS:
                return take_status(http);
        case HTTP_HEADERS:
                if (!http->line[0])
                        return begin_body(http), 0;
                return ++http->n_headers > HTTP_HEADERS_MAX ? -EBADMSG : take_header(http);
        case HTTP_CHUNK:
                if (number_of(http->line, 16, &http->left) < 0)
                        return -EBADMSG;
                http->state = http->left ? HTTP_CHUNK_DATA : HTTP_TRAILERS;
                return 0;
        case HTTP_CHUNK_END:
                http->state = HTTP_CHUNK;
                return http->line[0] ? -EBADMSG : 0;
        default: // trailers
                http->state = http->line[0] ? HTTP_TRAILERS : HTTP_DONE;
                return ++http->n_headers > HTTP_HEADERS_MAX ? -EBADMSG : 0;
        }
}

// Up to a line's end. Returns how many bytes it took, and whether the line is whole.
static size_t gather(struct http *http, const char *data, size_t size, int *ret_whole)
{
        const char *end = memchr(data, '\n', size);
        size_t n = end ? (size_t)(end - data) : size, room = sizeof http->line - 1 - http->n_line;

        memcpy(http->line + http->n_line, data, n < room ? n : room);
        http->n_line += (uint32_t)(n < room ? n : room);
        *ret_whole = end != NULL;
        return n + (end != NULL);
}

static ptrdiff_t feed_line(struct http *http, const char *data, size_t size)
{
        int whole, error;
        size_t n = gather(http, data, size, &whole);

        if (n > HTTP_HEAD_MAX - http->n_head)
                return -EBADMSG;
        http->n_head += (uint32_t)n;
        if (!whole)
                return (ptrdiff_t)n;
        if (http->n_line && http->line[http->n_line - 1] == '\r')
                http->n_line--;
        http->line[http->n_line] = 0;
        if (strlen(http->line) != http->n_line)
                return -EBADMSG;
        http->n_line = 0;
        error = take_line(http);
        return error ? error : (ptrdiff_t)n;
}

static ptrdiff_t feed_body(struct http *http, const char *data, size_t size, http_body *body, void *context)
{
        size_t n = size < http->left ? size : (size_t)http->left;
        int error = body(context, data, n);

        if (error)
                return error;
        http->n_head = 0;
        if (http->left != UINT64_MAX)
                http->left -= n;
        if (!http->left)
                http->state = http->state == HTTP_BODY ? HTTP_DONE : HTTP_CHUNK_END;
        return (ptrdiff_t)n;
}

ptrdiff_t http_feed(struct http *http, const char *data, size_t size, http_body *body, void *context)
{
        size_t at = 0;

        while (at < size && http->state != HTTP_DONE) {
                int in_body = http->state == HTTP_BODY || http->state == HTTP_CHUNK_DATA;
                ptrdiff_t n = in_body ? feed_body(http, data + at, size - at, body, context)
                                      : feed_line(http, data + at, size - at);

                if (n < 0)
                        return n;
                at += (size_t)n;
        }
        return (ptrdiff_t)at;
}

int http_end(struct http *http)
{
        if (http->state == HTTP_BODY && http->left == UINT64_MAX)
                http->state = HTTP_DONE;
        return http->state == HTTP_DONE ? 0 : -EPIPE;
}
