// Text that comes in pieces, handed over line by line.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct lines {
        char *text; // of the line that is not whole yet
        size_t n, size;
        size_t max;       // bytes of a line; a longer one is left out
        uint8_t skipping; // the line is longer
        uint64_t n_skipped;
};

// A whole line, without its end; a negative errno ends the reading.
typedef int lines_take(void *context, const char *line, size_t size);

void lines_init(struct lines *lines, size_t max);
void lines_deinit(struct lines *lines);
// Returns 0, what `take` returned, or -ENOMEM. Empty lines are nobody's.
int lines_feed(struct lines *lines, const char *data, size_t size, lines_take *take, void *context);
