#include "kube/reports.h"
#include <stdio.h>
#include <string.h>

static void say(const struct reports *r, const struct slot *slot, int warning, const char *reason,
                const char *text)
{
        const struct pod *pod = wishes_pod_of(r->wishes, slot);

        if (!pod)
                fprintf(stderr, "taktd: slot %s: %s: %s\n", slot->id, reason, text);
        else
                events_say(r->events, &(struct events_object){"Pod", pod->namespace, pod->name, pod->uid},
                           warning, reason, "%s", text);
}

static void look_at(const struct reports *r, struct slot *slot)
{
        static const char *const classes[] = {"deadline", "fair", "idle"};
        const struct host *host = r->wishes->slots->host;
        struct door_account account;
        char text[200];
        int is_lowered;

        host->services->account(host->node, (uint32_t)slot->tenant, &account);
        is_lowered = account.served != account.promised;
        if (account.overruns > slot->overruns && !is_lowered) {
                snprintf(text, sizeof text,
                         "its work ran past its turn on the GPU, beyond the longest piece that it declared "
                         "(step)");
                say(r, slot, 1, "Overrun", text);
        }
        if (is_lowered && !slot->is_lowered) {
                snprintf(text, sizeof text,
                         "after %lu overruns it is served as %s, not as %s, until it keeps to its turns",
                         account.overruns, classes[account.served], classes[account.promised]);
                say(r, slot, 1, "Demoted", text);
        }
        if (!is_lowered && slot->is_lowered) {
                snprintf(text, sizeof text, "it is served as %s again", classes[account.served]);
                say(r, slot, 0, "Restored", text);
        }
        slot->overruns = account.overruns;
        slot->is_lowered = is_lowered != 0;
}

void reports_look(struct reports *r)
{
        for (struct slot *s = r->wishes->slots->slot; s < r->wishes->slots->slot + r->wishes->slots->n_slots;
             s++)
                if (s->tenant >= 0)
                        look_at(r, s);
}

static void say_of_claim(const struct reports *r, const struct claim *claim, int warning, const char *reason,
                         const char *text)
{
        const struct events_object one = {"Pod", claim->of.namespace, claim->pod_name, claim->pod[0]};
        const struct events_object several = {"ResourceClaim", claim->of.namespace, claim->of.name,
                                              claim->of.uid};
        size_t size = strlen(claim->pod_name);
        int is_known = size > 0 && size + 1 < sizeof claim->pod_name; // else it may have been cut

        events_say(r->events, is_known ? &one : &several, warning, reason, "%s", text);
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
                        say(r, s, is_lost, reason, text);
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
