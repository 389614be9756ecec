// The daemon's status as people read it.
#pragma once
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

struct view {
        FILE *out;
        int width;            // lines are cut there; 0: nowhere
        size_t height;        // lines at most, from 3 on; 0: as many as there are
        const char *line_end; // what ends a line
};

// now: the answer to "status". before: an earlier one: parts, counts and waits are of the time between the
// two; NULL: of all time. What a tenant holds, wants and has of memory is as of now. If not all fits, the
// last line says how many lines do not.
void view_print(const struct view *view, json_t *now, json_t *before);
// A tenant's name in n columns, padded (0: as many as it has); it is the tenant's own, so what would speak to
// the terminal is left out.
void view_name(const char *name, unsigned n, char *text, size_t size);
