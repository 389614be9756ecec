#include "batch.h"
#include <stdlib.h>

// Each session, by its place.
#define FOR_EACH(b, place, s)                                                                                \
        for (int place = 0; place < BATCH_PLACES_MAX; place++)                                               \
                for (struct batch_session *s = &(b)->sessions[place]; s && s->came; s = NULL)

void batch_follow(struct batch *b, int place, int32_t *prompt, int32_t length, int32_t most, bool ignores_end)
{
        b->sessions[place] = (struct batch_session){
                .came = ++b->came,
                .prompt = prompt,
                .length = length,
                .left = most,
                .in_prompt = true,
                .ignores_end = ignores_end,
        };
}

void batch_leave(struct batch *b, int place)
{
        b->sessions[place].leaves = true;
}

void batch_end(struct batch *b, int place)
{
        free(b->sessions[place].prompt);
        b->sessions[place] = (struct batch_session){0};
}

int batch_left(struct batch *b)
{
        FOR_EACH(b, place, s)
        {
                if (s->leaves) {
                        batch_end(b, place);
                        return place;
                }
        }
        return BATCH_NONE;
}

// The place of the prompt that came first of those that came after `came`.
static int prompt_after(struct batch *b, uint64_t came)
{
        int first = BATCH_NONE;

        FOR_EACH(b, place, s)
        {
                if (s->in_prompt && s->came > came &&
                    (first == BATCH_NONE || s->came < b->sessions[first].came))
                        first = place;
        }
        return first;
}

int batch_step(struct batch *b, struct batch_row *rows)
{
        int32_t takes[BATCH_PLACES_MAX] = {0}, room = b->size;
        int n = 0;

        b->alone = !b->alone && prompt_after(b, 0) != BATCH_NONE;
        FOR_EACH(b, place, s)
        {
                if (!b->alone && !s->in_prompt)
                        room -= takes[place] = 1;
        }
        for (int p = prompt_after(b, 0); p != BATCH_NONE; p = prompt_after(b, b->sessions[p].came)) {
                int32_t rest = b->sessions[p].length - b->sessions[p].at;

                room -= takes[p] = rest < room ? rest : room;
        }
        FOR_EACH(b, place, s)
        {
                if (!takes[place])
                        continue;
                rows[n++] = (struct batch_row){
                        .place = place,
                        .at = s->at,
                        .n = takes[place],
                        .tokens = s->in_prompt ? s->prompt + s->at : &s->token,
                        .last = !s->in_prompt || takes[place] == s->length - s->at,
                };
        }
        return n;
}

bool batch_advance(struct batch *b, const struct batch_row *row, int32_t token, bool is_end,
                   struct batch_said *said)
{
        struct batch_session *s = &b->sessions[row->place];

        s->at += row->n;
        if (!row->last)
                return false;
        bool ends = is_end && !s->ignores_end;

        s->in_prompt = false;
        s->token = token;
        *said = (struct batch_said){
                .place = row->place,
                .token = ends ? BATCH_NONE : token,
                .over = ends || --s->left == 0,
        };
        if (said->over)
                batch_end(b, row->place);
        return true;
}
