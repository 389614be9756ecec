#include "kube/vitals.h"
#include <stdio.h>
#include "kube/limits.h"

// By NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors) and its own device plugin, which passes over the
// first six. Any other XID makes the GPU ill: also one that nobody knows yet.
static const struct {
        uint32_t xid;
        const char *what;
} applications[] = {
        {13, "exception of the graphics engine: an illegal instruction or access of a kernel"},
        {31, "memory page fault: an access to an illegal address"},
        {43, "stopped processing: a fault of the application, the GPU stays well"},
        {45, "preemptive clean-up: the process was killed, or had an error before"},
        {68, "exception of the video processor"},
        {109, "context switch timeout: the application's work did not give way"},
        {8, "stopped processing: the application is to be started again"},
        {63, "a page or row of memory is noted for repair at the next reset; nothing was lost"},
        {94, "contained memory error: it ends the application that had the memory, nobody else's"},
};

int vitals_is_applications(uint32_t xid)
{
        for (size_t i = 0; i < sizeof applications / sizeof *applications; i++)
                if (applications[i].xid == xid)
                        return 1;
        return 0;
}

void vitals_answers(struct vitals *v, uint64_t now_ns)
{
        v->known = 1;
        v->silent = 0;
        if (takt_time_since(now_ns, v->error_ns) >= KUBE_CALM_NS)
                v->ill = 0;
}

void vitals_silent(struct vitals *v, const char *why)
{
        if (!v->known || v->silent)
                return;
        v->silent = 1;
        if (!v->ill)
                snprintf(v->why, sizeof v->why, "%s", why);
}

void vitals_error(struct vitals *v, uint32_t xid, uint64_t now_ns)
{
        if (vitals_is_applications(xid))
                return;
        if (!v->ill && !v->silent)
                snprintf(v->why, sizeof v->why, "XID %u", xid);
        v->ill = 1;
        v->error_ns = now_ns;
}

int vitals_lost(const struct vitals *v)
{
        return v->silent || v->ill;
}
