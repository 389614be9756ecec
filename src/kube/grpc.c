#include "kube/grpc.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/time.h"

static int room_for(struct grpc_reader *r, uint32_t size)
{
        uint32_t room = r->room ? r->room : 1024;
        uint8_t *data;

        while (room < size)
                room *= 2;
        if (room == r->room)
                return 0;
        data = realloc(r->data, room);
        if (!data)
                return -ENOMEM;
        r->data = data;
        r->room = room;
        return 0;
}

static int begin(struct grpc_reader *r)
{
        if (r->prefix[0])
                return -EPROTO;
        r->want = (uint32_t)r->prefix[1] << 24 | (uint32_t)r->prefix[2] << 16 | (uint32_t)r->prefix[3] << 8 |
                  r->prefix[4];
        r->size = 0;
        return r->want > r->max ? -EMSGSIZE : 0;
}

ptrdiff_t grpc_read(struct grpc_reader *r, const uint8_t *data, size_t n, int *ret_whole)
{
        size_t taken = 0, part;
        int error;

        *ret_whole = 0;
        while (r->n_prefix < GRPC_PREFIX_SIZE && taken < n) {
                r->prefix[r->n_prefix++] = data[taken++];
                if (r->n_prefix == GRPC_PREFIX_SIZE && (error = begin(r)) < 0)
                        return error;
        }
        if (r->n_prefix < GRPC_PREFIX_SIZE)
                return (ptrdiff_t)taken;
        part = n - taken < r->want - r->size ? n - taken : r->want - r->size;
        if (part) {
                if (room_for(r, r->size + (uint32_t)part) < 0)
                        return -ENOMEM;
                memcpy(r->data + r->size, data + taken, part);
                r->size += (uint32_t)part;
        }
        if (r->size == r->want) {
                *ret_whole = 1;
                r->n_prefix = 0;
        }
        return (ptrdiff_t)(taken + part);
}

int grpc_reader_idle(const struct grpc_reader *r)
{
        return r->n_prefix == 0;
}

void grpc_reader_free(struct grpc_reader *r)
{
        free(r->data);
        *r = (struct grpc_reader){.max = r->max};
}

void grpc_prefix(uint8_t to[GRPC_PREFIX_SIZE], uint32_t size)
{
        to[0] = 0;
        for (int i = 0; i < 4; i++)
                to[1 + i] = (uint8_t)(size >> (24 - 8 * i));
}

static uint64_t unit_of(char unit)
{
        switch (unit) {
        case 'H':
                return 3600 * TAKT_S;
        case 'M':
                return 60 * TAKT_S;
        case 'S':
                return TAKT_S;
        case 'm':
                return TAKT_MS;
        case 'u':
                return TAKT_US;
        case 'n':
                return 1;
        default:
                return 0;
        }
}

int grpc_timeout_parse(const char *text, size_t size, uint64_t *ret_ns)
{
        uint64_t value = 0, unit;

        if (size < 2 || size > 9 || !(unit = unit_of(text[size - 1])))
                return -EINVAL;
        for (size_t i = 0; i + 1 < size; i++) {
                if (text[i] < '0' || text[i] > '9')
                        return -EINVAL;
                value = value * 10 + (uint64_t)(text[i] - '0');
        }
        // 99,999,999 hours are more than 64 bits of ns hold; so much is no deadline.
        *ret_ns = value > UINT64_MAX / 2 / unit ? UINT64_MAX / 2 : value * unit;
        return 0;
}

void grpc_timeout_print(char to[16], uint64_t ns)
{
        snprintf(to, 16, "%" PRIu64 "m", takt_time_min(ns / TAKT_MS + 1, 99999999));
}

void grpc_text_encode(char *to, size_t size, const char *text)
{
        static const char digits[] = "0123456789ABCDEF";
        size_t n = 0;

        for (; *text; text++) {
                unsigned char c = (unsigned char)*text;
                int plain = c >= 0x20 && c <= 0x7e && c != '%';

                if (n + (plain ? 1 : 3) >= size)
                        break;
                if (plain) {
                        to[n++] = *text;
                        continue;
                }
                to[n++] = '%';
                to[n++] = digits[c >> 4];
                to[n++] = digits[c & 15];
        }
        to[n] = 0;
}

static int digit_of(char c)
{
        return c >= '0' && c <= '9'   ? c - '0'
               : c >= 'A' && c <= 'F' ? c - 'A' + 10
               : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                      : -1;
}

// What is badly encoded is kept as it is, and what is no text for a terminal becomes a space.
void grpc_text_decode(char *to, size_t size, const char *text, size_t n)
{
        size_t at = 0;

        for (size_t i = 0; i < n && at + 1 < size; i++) {
                int c = (unsigned char)text[i];

                if (c == '%' && i + 2 < n && digit_of(text[i + 1]) >= 0 && digit_of(text[i + 2]) >= 0) {
                        c = digit_of(text[i + 1]) << 4 | digit_of(text[i + 2]);
                        i += 2;
                }
                to[at++] = (char)(c < 0x20 || c == 0x7f ? ' ' : c);
        }
        to[at] = 0;
}
