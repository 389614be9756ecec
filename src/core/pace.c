// Steps and the pace clock: each step moves the clock on by the token objective and is due when the clock
// says so. An agent that runs ahead of its pace has a late clock, and so lends its slack to whoever is in a
// hurry.
#include "core/internal.h"

void pace_init(struct seat *seat, uint64_t now_ns)
{
        seat->clock_ns = now_ns;
        seat->step_deadline_ns = TAKT_NEVER;
        seat->pending_deadline_ns = TAKT_NEVER;
        seat->gap_ns = GAP_START_NS;
        seat->step_ns = seat->contract.step_ns;
        seat->idle_since_ns = now_ns;
}

// Mean and mean deviation with gains of 1/8 and 1/4 (Jacobson 1988). Blind, a long one is a pause; within a
// request that is seen it is a gap all the same.
static void learn_gap(struct seat *seat, uint64_t gap_ns)
{
        uint64_t off;

        if (gap_ns > GAP_LONGEST_NS && !seat->seen)
                return;
        gap_ns = takt_time_min(gap_ns, GAP_LONGEST_NS);
        off = gap_ns > seat->gap_ns ? gap_ns - seat->gap_ns : seat->gap_ns - gap_ns;
        seat->gap_ns = seat->gap_ns - seat->gap_ns / 8 + gap_ns / 8;
        seat->gap_deviation_ns = seat->gap_deviation_ns - seat->gap_deviation_ns / 4 + off / 4;
}

// With no reports of requests, a step after a pause is taken for the first of a new request.
static int follows_pause(const struct seat *seat, uint64_t at_ns)
{
        return takt_time_since(at_ns, seat->idle_since_ns) > GAP_LONGEST_NS;
}

static void due_at_pace(struct seat *seat, uint64_t at_ns)
{
        const struct core_contract *c = &seat->contract;

        seat->clock_ns = takt_time_max(seat->clock_ns, at_ns) + c->pace_ns;
        // Blind to requests, a step may carry somebody's first token: it is never due later than that would
        // be.
        if (!seat->seen)
                seat->clock_ns = takt_time_min(seat->clock_ns, at_ns + c->first_ns);
        seat->step_deadline_ns = seat->clock_ns;
}

void pace_step_begin(struct seat *seat, uint64_t at_ns)
{
        const struct core_contract *c = &seat->contract;

        if (seat->in_step)
                return;
        seat->in_step = 1;
        seat->step_began_ns = at_ns;
        seat->is_first = seat->seen ? seat->n_pending > 0 : follows_pause(seat, at_ns);
        if (seat->is_first) {
                seat->step_deadline_ns = seat->seen ? TAKT_NEVER : at_ns + c->first_ns;
                if (!seat->seen)
                        seat->clock_ns = at_ns;
                return;
        }
        learn_gap(seat, takt_time_since(at_ns, seat->idle_since_ns));
        due_at_pace(seat, at_ns);
}

// An engine may begin its next step before it tells of the last one's tokens. What was taken for a first
// step, with nobody left who waits for a first token, is one of the others.
void pace_all_have_tokens(struct seat *seat, uint64_t now_ns)
{
        if (!seat->in_step || !seat->is_first || seat->n_pending)
                return;
        seat->is_first = 0;
        due_at_pace(seat, now_ns);
}

// Blind to requests, a step that goes on for much longer than its like was a prefill all along.
void pace_step_goes_on(struct seat *seat, uint64_t busy_ns)
{
        uint64_t longest = PREFILL_STEPS * takt_time_max(seat->step_ns, seat->contract.step_ns);

        if (seat->seen || seat->is_first || !seat->in_step || busy_ns <= longest)
                return;
        seat->is_first = 1;
        seat->step_deadline_ns = seat->step_began_ns + seat->contract.first_ns;
}

void pace_step_end(struct seat *seat, uint64_t at_ns, uint32_t steps, uint64_t busy_ns)
{
        uint64_t length = busy_ns / steps;

        // Steps that nobody watched: the first is the one that was begun, the others only move the clock.
        if (steps > 1 && !seat->is_first)
                seat->clock_ns = takt_time_max(seat->clock_ns, at_ns) + (steps - 1) * seat->contract.pace_ns;
        if (!seat->is_first && length < 4 * seat->step_ns)
                seat->step_ns = seat->step_ns - seat->step_ns / 8 + length / 8;
        seat->account.steps += steps;
        seat->in_step = 0;
        seat->is_first = 0;
        seat->step_deadline_ns = TAKT_NEVER;
}

// Giving up too early costs the holder a whole piece of somebody else's, lingering on costs the gap: so in
// doubt longer. Whose requests are seen is sure to come, however late; blind, nobody knows. Who takes too
// long as a rule is not waited for between two steps; one that has said that it is ready is.
uint64_t pace_linger(const struct seat *seat)
{
        uint64_t likely = seat->gap_ns + 4 * seat->gap_deviation_ns;
        uint64_t longest = seat->seen ? LINGER_LONGEST_NS : LINGER_BLIND_MAX_NS;

        if (seat->gap_ns > longest && !seat->in_step)
                return 0;
        if (seat->seen)
                return longest;
        return takt_time_min(takt_time_max(likely, LINGER_BLIND_MIN_NS), longest);
}

int pace_expects_step(const struct seat *seat)
{
        return !seat->seen || seat->n_requests > 0 || seat->n_unlisted > 0;
}
