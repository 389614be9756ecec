#include "kube/health.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

// Capacity stays: a lost GPU's slots are all there, and ill.
static int look(struct health *health)
{
        struct slots *slots = health->slots;
        int any = 0;

        for (uint32_t i = 0; i < slots->n_slots; i++) {
                struct slot *slot = &slots->slot[i];
                char path[136];
                uint8_t ill;

                snprintf(path, sizeof path, "%s/%s", health->folder, slots->device[slot->device].uuid);
                ill = access(path, F_OK) == 0;
                any |= ill != slot->ill;
                slot->ill = ill;
        }
        return any;
}

static void say(const struct slots *slots)
{
        for (uint32_t d = 0; d < slots->n_devices; d++)
                for (uint32_t i = 0; i < slots->n_slots; i++)
                        if (slots->slot[i].device == d) {
                                fprintf(stderr, "taktd: %s is %s\n", slots->device[d].uuid,
                                        slots->slot[i].ill ? "lost" : "well");
                                break;
                        }
}

static void news(struct node *node, struct watch *watch, uint32_t events)
{
        struct health *health = (struct health *)(void *)((char *)watch - offsetof(struct health, news));
        char bytes[4096];

        (void)node, (void)events;
        while (read(watch->fd, bytes, sizeof bytes) > 0)
                ;
        if (!look(health))
                return;
        say(health->slots);
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
        if (look(health))
                say(slots);
        return host->services->watch(host->node, &health->news, fd, 0, news);
}
