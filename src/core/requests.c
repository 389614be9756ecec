// Requests that were seen: each brings the deadline of its first token, and its end says that no step will
// follow.
#include "core/internal.h"

static struct request *find(struct seat *seat, uint64_t id)
{
        for (uint32_t i = 0; i < seat->n_requests; i++)
                if (seat->request[i].id == id)
                        return &seat->request[i];
        return 0;
}

static void find_earliest(struct seat *seat)
{
        seat->pending_deadline_ns = TAKT_NEVER;
        for (uint32_t i = 0; i < seat->n_requests; i++)
                if (!seat->request[i].has_token)
                        seat->pending_deadline_ns =
                                takt_time_min(seat->pending_deadline_ns, seat->request[i].deadline_ns);
}

void request_arrived(struct seat *seat, uint64_t id, uint64_t deadline_ns, uint64_t now_ns)
{
        uint64_t span = deadline_ns ? deadline_ns : seat->contract.first_ns;

        seat->seen = 1;
        seat->account.requests++;
        if (find(seat, id))
                return;
        if (seat->n_requests == CORE_REQUESTS_MAX) {
                seat->n_unlisted++;
                return;
        }
        seat->request[seat->n_requests++] =
                (struct request){.id = id, .deadline_ns = now_ns + span, .is_judged = span > 0};
        seat->n_pending++;
        find_earliest(seat);
}

static void judge(struct seat *seat, const struct request *request, uint64_t now_ns)
{
        if (!request->is_judged)
                return;
        if (now_ns <= request->deadline_ns)
                seat->account.in_time++;
        else
                seat->account.late++;
}

// The clock starts anew with the first request of a quiet agent; a busy one keeps the lead that it has.
void request_first_token(struct seat *seat, uint64_t id, uint64_t now_ns)
{
        struct request *request = find(seat, id);

        if (!request || request->has_token)
                return;
        request->has_token = 1;
        judge(seat, request, now_ns);
        seat->n_pending--;
        find_earliest(seat);
        if (seat->n_requests - seat->n_pending == 1)
                seat->clock_ns = now_ns;
        pace_all_have_tokens(seat, now_ns);
}

void request_finished(struct seat *seat, uint64_t id, uint64_t now_ns)
{
        struct request *request = find(seat, id);

        if (!request) {
                if (seat->n_unlisted)
                        seat->n_unlisted--;
                return;
        }
        if (!request->has_token) {
                seat->n_pending--;
                judge(seat, request, now_ns);
        }
        *request = seat->request[--seat->n_requests];
        find_earliest(seat);
        if (seat->n_requests == seat->n_pending)
                seat->clock_ns = now_ns;
        pace_all_have_tokens(seat, now_ns);
}
