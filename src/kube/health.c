#include "kube/health.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

// Capacity stays: a lost GPU's slots are all there, and ill. Returns which GPUs are not what they were.
static uint32_t look(struct health *health)
{
        struct slots *slots = health->slots;
        uint32_t before = health->lost;

        for (uint32_t d = 0; d < slots->n_devices; d++) {
                uint32_t bit = UINT32_C(1) << d;
                char path[136];

                snprintf(path, sizeof path, "%s/%s", health->folder, slots->device[d].uuid);
                health->lost = access(path, F_OK) == 0 ? health->lost | bit : health->lost & ~bit;
        }
        for (uint32_t i = 0; i < slots->n_slots; i++)
                slots->slot[i].ill = health->lost >> slots->slot[i].device & 1;
        return before ^ health->lost;
}

static void say(const struct health *health, uint32_t changed)
{
        for (uint32_t d = 0; d < health->slots->n_devices; d++)
                if (changed >> d & 1)
                        fprintf(stderr, "taktd: %s is %s\n", health->slots->device[d].uuid,
                                health->lost >> d & 1 ? "lost" : "well");
}

static void news(struct node *node, struct watch *watch, uint32_t events)
{
        struct health *health = (struct health *)(void *)((char *)watch - offsetof(struct health, news));
        char bytes[4096];
        uint32_t changed;

        (void)node, (void)events;
        while (read(watch->fd, bytes, sizeof bytes) > 0)
                ;
        changed = look(health);
        if (!changed)
                return;
        say(health, changed);
        health->changed(health->context);
}

int health_open(struct health *health, const struct host *host, struct slots *slots, const char *dir,
                void (*changed)(void *), void *context)
{
        int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

        *health = (struct health){.host = host, .slots = slots, .changed = changed, .context = context};
        snprintf(health->folder, sizeof health->folder, "%s/lost", dir);
        if (fd < 0 || (mkdir(health->folder, 0755) < 0 && errno != EEXIST) ||
            inotify_add_watch(fd, health->folder, IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM) < 0)
                return -errno;
        say(health, look(health));
        return host->services->watch(host->node, &health->news, fd, 0, news);
}
