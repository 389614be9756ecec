#include "kube/health.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"

// Capacity stays: a lost GPU's slots are all there, and ill.
static void mark(struct health *health, uint32_t d, int lost, const char *why)
{
        struct slots *slots = health->slots;

        health->lost ^= UINT32_C(1) << d;
        for (uint32_t i = 0; i < slots->n_slots; i++)
                if (slots->slot[i].device == d)
                        slots->slot[i].ill = (uint8_t)lost;
        if (lost)
                fprintf(stderr, "taktd: %s is lost: %s\n", slots->device[d].uuid, why);
        else
                fprintf(stderr, "taktd: %s is well\n", slots->device[d].uuid);
}

static int look_at(struct health *health, uint32_t d)
{
        const struct vitals *vitals = &health->vitals[d];
        char path[136];
        int filed, lost;

        snprintf(path, sizeof path, "%s/%s", health->folder, health->slots->device[d].uuid);
        filed = access(path, F_OK) == 0;
        lost = filed || vitals_lost(vitals);
        if (lost == (int)(health->lost >> d & 1))
                return 0;
        mark(health, d, lost, filed ? "there is a file in the folder of lost ones" : vitals->why);
        return 1;
}

static int look(struct health *health)
{
        int any = 0;

        for (uint32_t d = 0; d < health->slots->n_devices; d++)
                any |= look_at(health, d);
        return any;
}

static void news(struct node *node, struct watch *watch, uint32_t events)
{
        struct health *health = (struct health *)(void *)((char *)watch - offsetof(struct health, news));
        char bytes[4096];

        (void)node, (void)events;
        while (read(watch->fd, bytes, sizeof bytes) > 0)
                ;
        if (look(health))
                health->changed(health->context);
}

static void heard(void *context, uint32_t d, const char *what, const char *words)
{
        struct health *health = context;
        struct vitals *vitals = &health->vitals[d];
        uint64_t now_ns = takt_clock_now();

        if (!strcmp(what, "answers"))
                vitals_answers(vitals, now_ns);
        else if (!strcmp(what, "silent"))
                vitals_silent(vitals, words);
        else if (!strcmp(what, "error"))
                vitals_error(vitals, (uint32_t)strtoul(words, NULL, 10), now_ns);
        if (look_at(health, d))
                health->changed(health->context);
}

int health_open(struct health *health, const struct host *host, struct slots *slots, const char *dir,
                void (*changed)(void *), void *context)
{
        int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), error;

        *health = (struct health){.host = host, .slots = slots, .changed = changed, .context = context};
        snprintf(health->folder, sizeof health->folder, "%s/lost", dir);
        if (fd < 0 || (mkdir(health->folder, 0755) < 0 && errno != EEXIST) ||
            inotify_add_watch(fd, health->folder, IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM) < 0)
                return -errno;
        look(health);
        error = host->services->watch(host->node, &health->news, fd, 0, news);
        if (!error)
                helper_open(&health->helper, host, slots, heard, health);
        return error;
}

uint64_t health_due(const struct health *health)
{
        return helper_due(&health->helper);
}

void health_tick(struct health *health, uint64_t now_ns)
{
        helper_tick(&health->helper, now_ns);
}

void health_close(struct health *health)
{
        helper_close(&health->helper);
}
