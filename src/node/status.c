// What the daemon tells of itself, a few tenants at a time: of a full node it is a megabyte and ten
// milliseconds of work, in which no gate would be opened.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/clock.h"
#include "node/node.h"

// The curve as pairs [span, most device time used in such a span], both in ns.
static json_t *curve_of(const struct usage *usage)
{
        json_t *curve = json_array();

        for (unsigned k = 0; k < USAGE_SPANS; k++)
                json_array_append_new(curve, json_pack("[I,I]", (json_int_t)USAGE_SPAN_NS(k),
                                                       (json_int_t)usage_most(usage, k)));
        return curve;
}

static json_t *used(const struct usage *usage)
{
        uint64_t seen_ns = usage->since_ns ? takt_time_since(takt_clock_now(), usage->since_ns) : 0;

        return json_pack("{s:I,s:I,s:I,s:o}", "seen_ns", (json_int_t)seen_ns, "total_ns",
                         (json_int_t)usage->total_ns, "memory_max", (json_int_t)usage->memory_max, "curve",
                         curve_of(usage));
}

// Bounds for counts of waits, four an octave from 20 us to 275 s: each is the end of one of the histogram's
// buckets, so that the counts are exact.
#define WAIT_BOUNDS 96
#define WAIT_BOUND_NS(k) (((UINT64_C(5) + (k) % 4) << (12 + (k) / 4)) - 1)

static json_t *wait_bounds(void)
{
        json_t *bounds = json_array();

        for (unsigned k = 0; k < WAIT_BOUNDS; k++)
                json_array_append_new(bounds, json_integer((json_int_t)WAIT_BOUND_NS(k)));
        return bounds;
}

// How many waits were up to each bound and beyond the one before it; and last, how many were beyond all.
static json_t *counts_of(const struct takt_histogram *waits)
{
        uint64_t bound[WAIT_BOUNDS], n[WAIT_BOUNDS + 1];
        json_t *counts = json_array();

        for (unsigned k = 0; k < WAIT_BOUNDS; k++)
                bound[k] = WAIT_BOUND_NS(k);
        takt_histogram_up_to(waits, bound, WAIT_BOUNDS, n);
        n[WAIT_BOUNDS] = waits->count;
        for (unsigned k = 0; k <= WAIT_BOUNDS; k++)
                json_array_append_new(counts, json_integer((json_int_t)(n[k] - (k ? n[k - 1] : 0))));
        return counts;
}

static json_t *tenant_status(const struct node *node, uint32_t i)
{
        static const char *const classes[] = {"deadline", "fair", "idle"};
        const struct tenant *t = &node->tenant[i];
        struct core_account a = {0};

        core_account(node->core, i, &a);
        return json_pack(
                "{s:i,s:s,s:i,s:s,s:s,s:i,s:i,s:b,s:b,s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:"
                "I,s:I,s:o,s:o}",
                "tenant", (int)i, "name", t->name, "device", (int)t->device, "class", classes[a.class],
                "promised", classes[t->contract.class], "processes", (int)t->n_sessions, "uid", (int)t->uid,
                "holds", a.holds, "wants", a.wants, "busy", a.busy, "granted_ns", (json_int_t)a.granted_ns,
                "busy_ns", (json_int_t)a.busy_ns, "grants", (json_int_t)a.grants, "steps",
                (json_int_t)a.steps, "requests", (json_int_t)a.requests, "overruns", (json_int_t)a.overruns,
                "gap_ns", (json_int_t)a.gap_ns, "step_ns", (json_int_t)a.step_ns, "wait_p50_ns",
                (json_int_t)takt_histogram_at(&t->waits, 500), "wait_p99_ns",
                (json_int_t)takt_histogram_at(&t->waits, 990), "wait_max_ns", (json_int_t)a.wait_max_ns,
                "memory_used", (json_int_t)t->page->lane[t->device].memory_used, "memory_quota",
                (json_int_t)t->contract.memory_bytes, "used", used(&t->usage), "waits", counts_of(&t->waits));
}

static json_t *device_status(const struct node *node, uint32_t d)
{
        struct core_device_account a = {0};
        char uuid[41];

        core_device_account(node->core, d, &a);
        devices_uuid(&node->device[d], uuid);
        return json_pack("{s:i,s:s,s:s,s:I,s:i,s:I,s:I,s:I,s:I,s:I,s:b}", "device", (int)d, "name",
                         node->device[d].name, "uuid", uuid, "memory",
                         (json_int_t)node->device[d].memory_bytes, "holder", (int)a.holder, "elapsed_ns",
                         (json_int_t)a.elapsed_ns, "granted_ns", (json_int_t)a.granted_ns, "idle_ns",
                         (json_int_t)a.idle_ns, "switch_ns", (json_int_t)a.switch_ns, "switches",
                         (json_int_t)a.switches, "bypass", a.bypass);
}

// Of what there was no memory for, nothing: 0; else 1.
static int put(FILE *out, json_t *object)
{
        int done = object && json_dumpf(object, out, JSON_COMPACT) == 0;

        json_decref(object);
        return done;
}

static int put_head(FILE *out, const struct node *node)
{
        int done;

        fprintf(out,
                "{\"ok\":true,\"version\":\"%s\",\"pid\":%d,\"events\":%lu,\"wait_bounds_ns\":", TAKT_VERSION,
                (int)getpid(), node->n_events);
        done = put(out, wait_bounds());
        fputs(",\"devices\":[", out);
        for (uint32_t d = 0; d < node->n_devices; d++) {
                fputs(d ? "," : "", out);
                done &= put(out, device_status(node, d));
        }
        fputs("],\"tenants\":[", out);
        return done;
}

static int put_tenants(FILE *out, const struct node *node, struct stream *stream)
{
        int done = 1;

        for (uint32_t n = 0; n < NODE_STATUS_TENANTS && stream->next < NODE_TENANTS_MAX; stream->next++) {
                const struct tenant *t = &node->tenant[stream->next];

                if (!t->used || (stream->uid != 0 && stream->uid != t->uid))
                        continue;
                fputs(stream->told ? "," : "", out);
                done &= put(out, tenant_status(node, stream->next));
                stream->told = 1;
                n++;
        }
        if (stream->next == NODE_TENANTS_MAX) {
                fputs("]}\n", out);
                stream->telling = STATUS_NONE;
        }
        return done;
}

void status_go_on(struct node *node, struct stream *stream)
{
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        int done = out != NULL;

        if (out && stream->telling == STATUS_HEAD)
                done = put_head(out, node);
        if (out) {
                stream->telling = STATUS_TENANTS;
                done &= put_tenants(out, node, stream);
                done &= !ferror(out);
                done &= fclose(out) == 0;
        }
        if (!done) {
                free(text);
                text = NULL;
        }
        answer_send(node, stream, text, size);
}

void status_begin(struct node *node, struct stream *stream)
{
        grant_look(node);
        stream->telling = STATUS_HEAD;
        stream->told = 0;
        stream->next = 0;
        status_go_on(node, stream);
}
