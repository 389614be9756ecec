// The daemon's status as people read it.
#pragma once
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

struct view {
        FILE *out;
        int width;            // lines are cut there; 0: nowhere
        const char *line_end; // what ends a line
};

// now: the answer to "status". before: an earlier one: parts are of the time between the two; NULL: of all
// time.
void view_print(const struct view *view, json_t *now, json_t *before);
// A tenant's name in n columns, padded (0: as many as it has); it is the tenant's own, so what would speak to
// the terminal is left out.
void view_name(const char *name, unsigned n, char *text, size_t size);
