// The answers on one HTTP/1.1 connection: bytes in, a status and a body out.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define HTTP_LINE_MAX 2048 // of the status line and of each header; the rest of a longer header is skipped
#define HTTP_HEADERS_MAX 100
#define HTTP_HEAD_MAX                                                                                        \
        65536 // bytes between two of a body: of all its headers, or of a chunk's size and what follows it

enum http_state {
        HTTP_STATUS = 0,
        HTTP_HEADERS,
        HTTP_BODY,       // `left` bytes of it, or until the connection ends
        HTTP_CHUNK,      // the line with a chunk's size
        HTTP_CHUNK_DATA, // `left` bytes of it
        HTTP_CHUNK_END,  // the line end after a chunk
        HTTP_TRAILERS,
        HTTP_DONE,
};

struct http {
        enum http_state state;
        int status;
        uint64_t left;
        uint8_t chunked, sized, closes; // closes: nothing comes after this answer
        uint32_t n_headers, n_line, n_head;
        char line[HTTP_LINE_MAX];
};

// Body bytes; a negative errno ends the reading.
typedef int http_body(void *context, const char *data, size_t size);

// Begins with an answer.
void http_init(struct http *http);
// Takes bytes until the answer is whole (HTTP_DONE). Returns how many it took; -EBADMSG: it is no HTTP; or
// what `body` returned.
ptrdiff_t http_feed(struct http *http, const char *data, size_t size, http_body *body, void *context);
// The connection has ended. Returns 0: the answer is whole; -EPIPE: it is not.
int http_end(struct http *http);
