#include "client/line.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/time.h"
#include "client/takt.h"

// One byte of a string as JSON has it. Returns how many bytes that took: 1, 2 or 6.
static int escape(char to[8], unsigned char byte)
{
        static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
        const char *at = byte ? strchr(plain, byte) : NULL;

        if (at)
                return snprintf(to, 8, "\\%c", letter[at - plain]);
        return snprintf(to, 8, byte < 0x20 ? "\\u%04x" : "%c", byte);
}

// Adds the escaped id; returns where it ends, or 0 when it would pass `room`.
static size_t add_id(char *line, size_t size, size_t room, const char *id)
{
        char text[8];

        for (; *id; id++) {
                size_t n = (size_t)escape(text, (unsigned char)*id);

                if (size + n > room)
                        return 0;
                memcpy(line + size, text, n);
                size += n;
        }
        return size;
}

int client_line_write(char line[CLIENT_LINE_MAX], const char *event, const char *id, uint64_t deadline_ns)
{
        char end[64];
        size_t size, n;

        if (!id || !*id || deadline_ns > TAKT_DEADLINE_MAX)
                return -EINVAL;
        // Whole numbers only: a decimal point would be written as the host's locale has it.
        if (deadline_ns)
                n = (size_t)snprintf(end, sizeof end, "\",\"deadline_ms\":%lu.%06lu}\n",
                                     deadline_ns / TAKT_MS, deadline_ns % TAKT_MS);
        else
                n = (size_t)snprintf(end, sizeof end, "\"}\n");
        size = (size_t)snprintf(line, CLIENT_LINE_MAX, "{\"event\":\"%s\",\"id\":\"", event);
        size = add_id(line, size, CLIENT_LINE_MAX - n, id);
        if (!size)
                return -EMSGSIZE;
        memcpy(line + size, end, n);
        return (int)(size + n);
}
