#include "wire/request.h"
#include <errno.h>
#include <string.h>
#include "base/hash.h"

// A cursor over the line; every reader returns false at the first thing that is not as it should be.
struct cursor {
        const char *at, *end;
};

struct text {
        const char *at;
        size_t size;
};

static void skip_space(struct cursor *c)
{
        while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\r'))
                c->at++;
}

static int take(struct cursor *c, char what)
{
        skip_space(c);
        if (c->at >= c->end || *c->at != what)
                return 0;
        c->at++;
        return 1;
}

// A string without control characters. Escapes are kept as written: ids are only compared.
static int take_string(struct cursor *c, struct text *ret_text)
{
        if (!take(c, '"'))
                return 0;
        ret_text->at = c->at;
        while (c->at < c->end && *c->at != '"') {
                if ((unsigned char)*c->at < 0x20)
                        return 0;
                c->at += *c->at == '\\' && c->end - c->at > 1 && (unsigned char)c->at[1] >= 0x20 ? 2 : 1;
        }
        if (c->at >= c->end)
                return 0;
        ret_text->size = (size_t)(c->at++ - ret_text->at);
        return 1;
}

// A number from 0 to 10^9 with up to six decimals that count, in millionths.
static int take_number(struct cursor *c, uint64_t *ret_millionths)
{
        uint64_t value = 0, scale = 1000000;
        const char *start;

        skip_space(c);
        start = c->at;
        for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
                if ((value = value * 10 + (uint64_t)(*c->at - '0')) > 1000000000)
                        return 0;
        if (c->at == start)
                return 0;
        value *= 1000000;
        if (c->at < c->end && *c->at == '.')
                for (c->at++; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
                        value += (uint64_t)(*c->at - '0') * (scale /= 10);
        *ret_millionths = value;
        return value <= UINT64_C(1000000000) * 1000000;
}

static int skip_one_of(struct cursor *c, const char *these)
{
        int there = c->at < c->end && *c->at && strchr(these, *c->at);

        c->at += there;
        return there;
}

static int skip_digits(struct cursor *c)
{
        const char *start = c->at;

        while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
                c->at++;
        return c->at > start;
}

// A number of a member that is not known: of any size, sign and form.
static int skip_number(struct cursor *c)
{
        skip_one_of(c, "-");
        if (!skip_digits(c))
                return 0;
        if (skip_one_of(c, "."))
                skip_digits(c);
        if (!skip_one_of(c, "eE"))
                return 1;
        skip_one_of(c, "+-");
        return skip_digits(c);
}

static int is(struct text text, const char *word)
{
        return text.size == strlen(word) && memcmp(text.at, word, text.size) == 0;
}

static uint64_t hash(struct text text)
{
        return takt_hash(TAKT_HASH_START, text.at, text.size);
}

static enum takt_request_event event_of(struct text text)
{
        if (is(text, "arrived"))
                return TAKT_REQUEST_ARRIVED;
        if (is(text, "first_token"))
                return TAKT_REQUEST_FIRST_TOKEN;
        return is(text, "finished") ? TAKT_REQUEST_FINISHED : 0;
}

enum { SEEN_EVENT = 1, SEEN_ID = 2, SEEN_DEADLINE = 4 };

// One "name": value; adds what it was to *seen.
static int take_member(struct cursor *c, struct takt_request_line *line, unsigned *seen)
{
        struct text name, text = {0};
        uint64_t millionths = 0;
        unsigned what = 0;
        int string, is_read;

        if (!take_string(c, &name) || !take(c, ':'))
                return 0;
        skip_space(c);
        string = c->at < c->end && *c->at == '"';
        if (string)
                is_read = take_string(c, &text);
        else
                is_read = is(name, "deadline_ms") ? take_number(c, &millionths) : skip_number(c);
        if (!is_read)
                return 0;
        if (is(name, "event") && string) {
                what = SEEN_EVENT;
                line->event = event_of(text);
        } else if (is(name, "id") && string) {
                what = SEEN_ID;
                line->id = hash(text);
        } else if (is(name, "deadline_ms") && !string) {
                what = SEEN_DEADLINE;
                line->deadline_ns = millionths;
        } else if (is(name, "event") || is(name, "id") || is(name, "deadline_ms")) {
                return 0;
        }
        if (*seen & what)
                return 0;
        *seen |= what;
        return 1;
}

int takt_request_parse(const char *line, size_t size, struct takt_request_line *ret_line)
{
        struct cursor c = {line, line + size};
        unsigned seen = 0;

        memset(ret_line, 0, sizeof *ret_line);
        if (size > TAKT_REQUEST_LINE_MAX || !take(&c, '{'))
                return -EBADMSG;
        do {
                if (!take_member(&c, ret_line, &seen))
                        return -EBADMSG;
        } while (take(&c, ','));
        if (!take(&c, '}'))
                return -EBADMSG;
        skip_space(&c);
        if (c.at != c.end || !ret_line->event || !(seen & SEEN_ID))
                return -EBADMSG;
        return 0;
}
