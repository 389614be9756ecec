#include "kube/reports.h"
#include <stdio.h>
#include <string.h>

#define LOOK_NS TAKT_S

// A tenant, whose it is, and what was seen of it at the last look.
struct watched {
        uint32_t tenant;
        const struct slot *slot; // NULL: it is the claim's
        const struct claim *claim;
        uint32_t result; // of the claim
        uint64_t *overruns;
        uint8_t *is_lowered;
};

struct events_object reports_object_of(const struct claim *claim)
{
        if (claim->pod_name[0])
                return (struct events_object){"Pod", claim->of.namespace, claim->pod_name, claim->pod[0]};
        return (struct events_object){"ResourceClaim", claim->of.namespace, claim->of.name, claim->of.uid};
}

static void say_of_claim(const struct reports *r, const struct claim *claim, int warning, const char *reason,
                         const char *text)
{
        const struct events_object object = reports_object_of(claim);

        events_say(r->events, &object, warning, reason, "%s", text);
}

static void say_of_slot(const struct reports *r, const struct slot *slot, int warning, const char *reason,
                        const char *text)
{
        const struct pod *pod = wishes_pod_of(r->wishes, slot);

        if (!pod)
                fprintf(stderr, "taktd: slot %s: %s: %s\n", slot->id, reason, text);
        else
                events_say(r->events, &(struct events_object){"Pod", pod->namespace, pod->name, pod->uid},
                           warning, reason, "%s", text);
}

static void say(const struct reports *r, const struct watched *w, int warning, const char *reason,
                const char *text)
{
        char with_request[KUBE_EVENT_TEXT_MAX];

        if (w->slot) {
                say_of_slot(r, w->slot, warning, reason, text);
                return;
        }
        snprintf(with_request, sizeof with_request, "claim %s, request %s: %s", w->claim->of.name,
                 w->claim->result[w->result].request, text);
        say_of_claim(r, w->claim, warning, reason, with_request);
}

static void look_at(struct reports *r, const struct watched *w, uint64_t now_ns)
{
        static const char *const classes[] = {"deadline", "fair", "idle"};
        const struct host *host = r->wishes->slots->host;
        struct door_account account;
        char text[200];
        int has_overrun, is_lowered;

        host->services->account(host->node, w->tenant, &account);
        has_overrun = account.overruns > *w->overruns;
        // Who still runs past his turns is not restored yet: his class may come and go within a second.
        is_lowered = account.served != account.promised || (*w->is_lowered && has_overrun);
        if (is_lowered && !*w->is_lowered) {
                snprintf(text, sizeof text,
                         "after %lu overruns it is served as %s, not as %s, until it keeps to its turns",
                         account.overruns, classes[account.served], classes[account.promised]);
                say(r, w, 1, "Demoted", text);
        } else if (!is_lowered && *w->is_lowered) {
                snprintf(text, sizeof text, "it is served as %s again", classes[account.served]);
                say(r, w, 0, "Restored", text);
        } else if (!is_lowered && has_overrun) {
                if (now_ns < r->quiet_ns)
                        return; // it is told of later
                say(r, w, 1, "Overrun",
                    "its work ran past its turn on the GPU, beyond the longest piece that it declared "
                    "(step)");
                r->said_overrun = 1;
        }
        *w->overruns = account.overruns;
        *w->is_lowered = is_lowered != 0;
}

static void look_at_slots(struct reports *r, int is_last, uint64_t now_ns)
{
        struct slots *slots = r->wishes->slots;

        for (struct slot *s = slots->slot; s < slots->slot + slots->n_slots; s++)
                if (s->tenant >= 0 && (is_last || wishes_pod_of(r->wishes, s)))
                        look_at(r,
                                &(struct watched){.tenant = (uint32_t)s->tenant,
                                                  .slot = s,
                                                  .overruns = &s->overruns,
                                                  .is_lowered = &s->is_lowered},
                                now_ns);
}

static void look_at_claims(struct reports *r, uint64_t now_ns)
{
        for (struct held *h = r->claims->held; h < r->claims->held + KUBE_CLAIMS_MAX; h++)
                for (uint32_t i = 0; h->used && i < h->claim.n_results; i++)
                        if (h->tenant[i] >= 0)
                                look_at(r,
                                        &(struct watched){.tenant = (uint32_t)h->tenant[i],
                                                          .claim = &h->claim,
                                                          .result = i,
                                                          .overruns = &h->overruns[i],
                                                          .is_lowered = &h->is_lowered[i]},
                                        now_ns);
}

// A pod may get a claim by asking for a class' resource, as it would for slots.
static void look_at_annotations(struct reports *r)
{
        struct podlist *list = &r->wishes->list;

        for (struct pod *p = list->pod; !r->wishes->deaf && p < list->pod + list->n_pods; p++) {
                const struct events_object object = {"Pod", p->namespace, p->name, p->uid};

                if (!p->uid[0] || !p->wrong[0] || p->said_wrong || podlist_wants_slots(p) ||
                    !claims_of_pod(r->claims, p->uid))
                        continue;
                p->said_wrong = 1;
                events_say(r->events, &object, 1, "InvalidAnnotation",
                           "%s: not read, since the pod has its GPU by a claim: what that promises are its "
                           "capacity and its configuration",
                           p->wrong);
        }
}

void reports_look(struct reports *r, int is_last, uint64_t now_ns)
{
        r->said_overrun = 0;
        look_at_slots(r, is_last, now_ns);
        if (r->claims) {
                look_at_claims(r, now_ns);
                look_at_annotations(r);
        }
        if (r->said_overrun)
                r->quiet_ns = now_ns + KUBE_LOOK_NS;
}

uint64_t reports_due(const struct reports *r)
{
        return r->due_ns;
}

void reports_tick(struct reports *r, uint64_t now_ns)
{
        r->due_ns = now_ns + LOOK_NS;
        reports_look(r, 0, now_ns);
}

static int is_on(const struct claim *claim, uint32_t device)
{
        for (uint32_t i = 0; i < claim->n_results; i++)
                if (claim->result[i].gpu == device)
                        return 1;
        return 0;
}

static void say_health(const struct reports *r, uint32_t device, int is_lost)
{
        const struct slots *slots = r->wishes->slots;
        const struct events_object node = {"Node", NULL, r->node, r->node};
        const char *reason = is_lost ? "GPULost" : "GPURecovered";
        char text[200];

        snprintf(text, sizeof text,
                 is_lost ? "GPU %s is lost: unhealthy, and given to nobody, until it is back"
                         : "GPU %s is well again",
                 slots->device[device].uuid);
        if (r->node[0])
                events_say(r->events, &node, is_lost, reason, "%s", text);
        for (const struct slot *s = slots->slot; s < slots->slot + slots->n_slots; s++)
                if (s->device == device && s->tenant >= 0)
                        say_of_slot(r, s, is_lost, reason, text);
        for (uint32_t i = 0; r->claims && i < KUBE_CLAIMS_MAX; i++)
                if (r->claims->held[i].used && is_on(&r->claims->held[i].claim, device))
                        say_of_claim(r, &r->claims->held[i].claim, is_lost, reason, text);
}

void reports_health(struct reports *r, uint32_t lost)
{
        for (uint32_t d = 0; d < r->wishes->slots->n_devices; d++)
                if ((lost ^ r->lost) >> d & 1)
                        say_health(r, d, lost >> d & 1);
        r->lost = lost;
}
