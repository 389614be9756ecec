// Readers of traces: columns by their names, times as seconds, dates or JSON's milliseconds.
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include "cli/load_plan.h"

#define FIELDS_MAX 16

enum { TIME, PROMPT, OUTPUT, N_COLUMNS };

struct reader {
        int column[N_COLUMNS];
        double first_s, last_s; // first_s: of a trace of dates; NaN: none yet
};

struct row {
        double at_s, tokens[2]; // prompt, output
};

// The fields of a line, cut apart in place. Returns how many.
static int split(char *line, char *field[FIELDS_MAX])
{
        int n = 0;

        line[strcspn(line, "\r\n")] = 0;
        while (line && n < FIELDS_MAX)
                field[n++] = strsep(&line, ",");
        return n;
}

static int is_one_of(const char *name, const char *const *names)
{
        for (; *names; names++)
                if (!strcasecmp(name, *names))
                        return 1;
        return 0;
}

// A first line of names says where the columns are. Returns whether it is one.
static int take_names(struct reader *r, char **field, int n)
{
        static const char *const names[N_COLUMNS][5] = {
                [TIME] = {"time_s", "timestamp"},
                [PROMPT] = {"prompt_tokens", "ContextTokens", "Request tokens"},
                [OUTPUT] = {"output_tokens", "GeneratedTokens", "Response tokens"},
        };
        int found = 0;

        for (int i = 0; i < n; i++)
                for (int c = 0; c < N_COLUMNS; c++)
                        if (is_one_of(field[i], names[c])) {
                                r->column[c] = i;
                                found |= 1 << c;
                        }
        return found == (1 << N_COLUMNS) - 1;
}

static int number(const char *text, double *ret)
{
        char *end;

        if (!isdigit((unsigned char)*text))
                return -EBADMSG;
        *ret = strtod(text, &end);
        return *end || !isfinite(*ret) ? -EBADMSG : 0;
}

// "2023-11-16 18:15:46.6805900", or with an offset as in +00:00: in seconds, which only differences are made
// of.
static int date(const char *text, double *ret_s)
{
        struct tm t = {0};
        double part = 0;
        const char *rest = strptime(text, "%Y-%m-%d %H:%M:%S", &t);
        char *end;

        if (!rest)
                return -EBADMSG;
        end = (char *)rest;
        if (*rest == '.')
                part = strtod(rest, &end);
        if (*end && *end != '+')
                return -EBADMSG;
        *ret_s = (double)timegm(&t) + part;
        return 0;
}

static int take_fields(struct reader *r, char **field, int n, struct row *ret)
{
        for (int c = 0; c < N_COLUMNS; c++)
                if (r->column[c] >= n)
                        return -EBADMSG;
        if (number(field[r->column[PROMPT]], &ret->tokens[0]) ||
            number(field[r->column[OUTPUT]], &ret->tokens[1]))
                return -EBADMSG;
        if (number(field[r->column[TIME]], &ret->at_s) == 0)
                return 0;
        if (date(field[r->column[TIME]], &ret->at_s) < 0)
                return -EBADMSG;
        if (isnan(r->first_s))
                r->first_s = ret->at_s;
        ret->at_s -= r->first_s;
        return 0;
}

static int take_json(const char *line, struct row *ret)
{
        json_t *object = json_loads(line, 0, NULL);
        json_t *at = json_object_get(object, "timestamp"), *in = json_object_get(object, "input_length"),
               *out = json_object_get(object, "output_length");
        int ok = json_is_number(at) && json_is_number(in) && json_is_number(out);

        *ret = (struct row){json_number_value(at) / 1e3, {json_number_value(in), json_number_value(out)}};
        json_decref(object);
        return ok ? 0 : -EBADMSG;
}

// One line; 1: it says where the columns are.
static int take_line(struct reader *r, char *line, int is_first, struct row *ret)
{
        char *field[FIELDS_MAX];
        int n;

        if (*line == '{')
                return take_json(line, ret);
        n = split(line, field);
        if (is_first && take_names(r, field, n))
                return 1;
        return take_fields(r, field, n, ret);
}

static int is_possible(const struct reader *r, const struct row *row)
{
        return row->at_s >= r->last_s && row->tokens[0] >= 0 && row->tokens[0] <= LOAD_TOKENS_MAX &&
               row->tokens[1] >= 0 && row->tokens[1] <= LOAD_TOKENS_MAX;
}

static int read_all(FILE *file, double speed, uint64_t duration_ns, struct load_request **ret, int *ret_line)
{
        struct reader r = {.column = {0, 1, 2}, .first_s = NAN};
        struct row row;
        char *line = NULL;
        size_t room = 0;
        int n = 0;

        while (n >= 0 && getline(&line, &room, file) > 0) {
                int error = take_line(&r, line, ++*ret_line == 1, &row);

                if (error > 0)
                        continue;
                if (error < 0 || !is_possible(&r, &row)) {
                        n = -EBADMSG;
                        break;
                }
                r.last_s = row.at_s;
                if (row.tokens[0] >= 1 && row.tokens[1] >= 1 && row.at_s / speed * 1e9 < (double)duration_ns)
                        n = load_plan_append(ret, n,
                                             (struct load_request){(uint64_t)(row.at_s / speed * 1e9),
                                                                   (uint32_t)row.tokens[0],
                                                                   (uint32_t)row.tokens[1]});
        }
        free(line);
        return n;
}

int load_plan_trace(const char *path, double speed, uint64_t duration_ns, struct load_request **ret,
                    int *ret_line)
{
        FILE *file = fopen(path, "re");
        int n;

        *ret = NULL;
        *ret_line = 0;
        if (!file)
                return -errno;
        n = read_all(file, speed, duration_ns, ret, ret_line);
        if (n >= 0 && ferror(file))
                n = -EIO; // a folder, for one
        fclose(file);
        if (n < 0) {
                free(*ret);
                *ret = NULL;
        }
        return n;
}
