// A tenant: a contract that was admitted, a folder with two sockets, and a seat of the core's.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "node/node.h"

static int page_open(struct tenant *t)
{
        t->page_fd = memfd_create("takt-tenant", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (t->page_fd < 0 || ftruncate(t->page_fd, TAKT_PAGE_SIZE) < 0)
                return -errno;
        t->page = mmap(NULL, TAKT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, t->page_fd, 0);
        if (t->page == MAP_FAILED)
                return -errno;
        fcntl(t->page_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
        t->page->magic = TAKT_PAGE_TENANT_MAGIC;
        return 0;
}

// The folder may be one that another user had, or a daemon before this one. While it is ours alone nobody can
// put a link where we are about to change an owner. It stays the same folder: a container may have it
// mounted.
static int take_dir(const char *dir)
{
        int fd, error = 0;

        if (mkdir(dir, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOTDIR && unlink(dir) == 0 &&
            mkdir(dir, 0700) == 0) // no folder was in its place
                fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fchown(fd, geteuid(), (gid_t)-1) < 0 || fchmod(fd, 0700) < 0)
                error = -errno;
        close(fd);
        return error;
}

static uint64_t random_name(void)
{
        uint64_t name = takt_clock_now();

        getrandom(&name, sizeof name, GRND_NONBLOCK);
        return name;
}

static int open_to_all(int fd, const char *path, int open)
{
        if (fd < 0 || !open || chmod(path, 0666) == 0)
                return fd;
        close(fd);
        return -EACCES;
}

// Whatever is there goes out of the way, to a name that its last owner cannot have taken.
static int put_aside(const char *path)
{
        char aside[160];

        for (int i = 0; i < 8; i++) {
                snprintf(aside, sizeof aside, "%s.%lx", path, random_name());
                if (rename(path, aside) == 0 || errno == ENOENT)
                        return 0;
        }
        return -errno;
}

static int listen_in(const struct tenant *t, const char *name, int type)
{
        char path[128];

        snprintf(path, sizeof path, "%s/%s", t->dir, name);
        if (unlink(path) < 0 && errno == EISDIR && put_aside(path) < 0)
                return -errno;
        return open_to_all(listen_at(path, type, t->uid), path, t->by_door);
}

// A user's libraries are not the next one's: whoever still has a hand in that folder could give them others.
static int put_aside_libraries(const struct tenant *t)
{
        char path[128];
        struct stat info;

        snprintf(path, sizeof path, "%s/lib", t->dir);
        return lstat(path, &info) == 0 && info.st_uid != t->uid ? put_aside(path) : 0;
}

static int open_sockets(struct node *node, struct tenant *t, uint32_t index)
{
        int fd, error;

        if (!t->by_door)
                snprintf(t->dir, sizeof t->dir, "%s/t%u", node->dir, index);
        error = take_dir(t->dir);
        if (error < 0)
                return error;
        if ((error = put_aside_libraries(t)) < 0)
                return error;
        // A door's tenant is in a container of any user; the door keeps others out of the folders above.
        if (t->by_door && chmod(t->dir, 0755) < 0)
                return -errno;
        fd = listen_in(t, "join", SOCK_SEQPACKET);
        if (fd < 0)
                return fd;
        watch_add(node, &t->join, fd, index, session_accept);
        fd = listen_in(t, "requests", SOCK_STREAM);
        if (fd < 0)
                return fd;
        watch_add(node, &t->requests, fd, index, stream_accept);
        return t->uid != geteuid() && chown(t->dir, t->uid, (gid_t)-1) < 0 ? -errno : 0;
}

static int place(const struct node *node, int32_t reclaim)
{
        if (reclaim >= 0 && reclaim < NODE_TENANTS_MAX && !node->tenant[reclaim].used)
                return reclaim;
        for (int i = 0; i < NODE_TENANTS_MAX; i++)
                if (!node->tenant[i].used)
                        return i;
        return -EUSERS;
}

// No user has more seats than are free, of the node's and of each device's, so that there is one for the
// next. Root's agents are many users'. Returns 0, -EUSERS (of the node) or -EDQUOT (of the device).
static int may_sit_down(const struct node *node, uid_t uid, uint32_t device)
{
        uint32_t n_used = 0, n_own = 0, n_used_there = 0, n_own_there = 0;

        for (const struct tenant *t = node->tenant; t < node->tenant + NODE_TENANTS_MAX; t++) {
                int is_own = t->used && t->uid == uid, is_there = t->used && t->device == device;

                n_used += t->used;
                n_own += is_own;
                n_used_there += is_there;
                n_own_there += is_own && is_there;
        }
        if (node->user_mode || uid == 0)
                return 0;
        if (n_own + n_used >= NODE_TENANTS_MAX)
                return -EUSERS;
        return n_own_there + n_used_there < CORE_PLACES_MAX ? 0 : -EDQUOT;
}

// Returns the tenant's number; -EDQUOT with the refusal filled in; or another negative errno.
int tenant_register(struct node *node, const struct tenant_order *order, struct core_refusal *ret_refusal)
{
        int index = place(node, order->reclaim), error;
        struct tenant *t;
        struct core_event event = {
                .kind = CORE_EVENT_JOIN, .device = order->device, .contract = order->contract};

        if (index < 0)
                return index;
        if (order->device >= node->n_devices)
                return -ENODEV;
        *ret_refusal = (struct core_refusal){0};
        if ((error = may_sit_down(node, order->uid, order->device)) < 0) {
                ret_refusal->reason = CORE_REFUSAL_FULL;
                return error;
        }
        event.seat = (uint32_t)index;
        grant_tell(node, event, ret_refusal);
        if (ret_refusal->reason)
                return -EDQUOT;
        t = &node->tenant[index];
        memset(t, 0, sizeof *t);
        t->used = t->seated = 1;
        t->by_door = order->dir != NULL;
        t->uid = order->uid;
        t->device = order->device;
        t->contract = *order->contract;
        t->control = order->control;
        t->join.fd = t->requests.fd = t->page_fd = -1;
        snprintf(t->name, sizeof t->name, "%s", order->name);
        if (t->by_door)
                snprintf(t->dir, sizeof t->dir, "%s", order->dir);
        takt_histogram_init(&t->waits);
        error = page_open(t);
        if (!error)
                error = open_sockets(node, t, (uint32_t)index);
        if (error) {
                tenant_drop(node, (uint32_t)index);
                return error;
        }
        return index;
}

int tenant_amend(struct node *node, uint32_t index, const struct core_contract *contract,
                 struct core_refusal *ret_refusal)
{
        struct tenant *t = &node->tenant[index];
        struct core_event event = {.kind = CORE_EVENT_AMEND, .seat = index, .contract = contract};

        *ret_refusal = (struct core_refusal){0};
        grant_tell(node, event, ret_refusal);
        if (ret_refusal->reason)
                return -EDQUOT;
        t->contract = *contract;
        for (struct session *s = t->sessions; s; s = s->next)
                s->daemon->lane[t->device].memory_quota = contract->memory_bytes;
        return 0;
}

void tenant_drop(struct node *node, uint32_t index)
{
        struct tenant *t = &node->tenant[index];
        char path[128];

        if (!t->used)
                return;
        t->used = 0;
        for (uint32_t i = 0; i < NODE_SESSIONS_MAX; i++)
                if (node->session[i].used && node->session[i].tenant == index)
                        session_drop(node, i);
        for (uint32_t i = 0; i < NODE_STREAMS_MAX; i++)
                if (node->stream[i].used && node->stream[i].kind == STREAM_REQUESTS &&
                    node->stream[i].tenant == index)
                        stream_drop(node, i);
        watch_remove(node, &t->join);
        watch_remove(node, &t->requests);
        snprintf(path, sizeof path, "%s/join", t->dir);
        unlink(path);
        snprintf(path, sizeof path, "%s/requests", t->dir);
        unlink(path);
        if (t->page && t->page != MAP_FAILED)
                munmap(t->page, TAKT_PAGE_SIZE);
        if (t->page_fd >= 0)
                close(t->page_fd);
        grant_tell(node, (struct core_event){.kind = CORE_EVENT_LEAVE, .seat = index}, NULL);
        t->seated = 0;
        if (node->holder[t->device] == t)
                node->holder[t->device] = NULL;
        node_rest(node);
}

// A user's own daemon ends when nobody is there any more: no tenant, and nobody who may become one.
void node_rest(struct node *node)
{
        int used = !node->user_mode;

        for (uint32_t i = 0; i < NODE_TENANTS_MAX; i++)
                used |= node->tenant[i].used;
        for (uint32_t i = 0; i < NODE_STREAMS_MAX; i++)
                used |= node->stream[i].used && node->stream[i].kind == STREAM_CONTROL;
        node->quit |= !used;
}

// A tenant lives as long as who registered it, or any of its processes.
void tenant_unused(struct node *node, uint32_t index)
{
        const struct tenant *t = &node->tenant[index];

        if (t->used && !t->by_door && t->control < 0 && t->n_sessions == 0)
                tenant_drop(node, index);
}
