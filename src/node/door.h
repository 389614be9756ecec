// A door: a way by which tenants come other than the control socket. It lies in a library of its own, loaded
// only where it is asked for; this is what the daemon and a door know of each other.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/contract.h"

struct node;

// Something that epoll watches; `ready` is called when there is news. Its storage must stay: news may come
// once more after it was removed, within the same turn of the loop, and then finds fd = -1 or other news.
struct watch {
        int fd; // -1: none
        void (*ready)(struct node *node, struct watch *watch, uint32_t events);
        uint32_t index; // of the session, tenant or stream that it belongs to
};

struct door_device {
        char uuid[41]; // as NVML writes it: "GPU-" and five groups
        char name[64];
        uint64_t memory_bytes;
};

struct door_tenant {
        const char *name; // what `takt status` calls it
        const char *dir;  // its folder, with the sockets `join` and `requests`; it is made
        const struct core_contract *contract; // need not be complete
        uint32_t device;
};

struct door_account {
        enum core_class promised, served; // not the same: it has overrun too often for its class
        uint64_t overruns;
};

// What the daemon does for a door.
struct door_services {
        int (*watch)(struct node *node, struct watch *watch, int fd, uint32_t index,
                     void (*ready)(struct node *node, struct watch *watch, uint32_t events));
        void (*watch_change)(struct node *node, struct watch *watch, uint32_t events); // EPOLLIN, EPOLLOUT
        void (*unwatch)(struct node *node, struct watch *watch);                       // closes it, too
        int (*listen)(const char *path, int type, uid_t owner);
        int (*accept)(struct node *node, int fd); // -1: nobody, or nobody that there is room for
        // ret_devices has room for CORE_DEVICES_MAX (16).
        uint32_t (*devices)(const struct node *node, struct door_device *ret_devices);
        // Admits a tenant that lives until it is dropped. Returns its number; -EDQUOT: its promise or
        // another's would break, and `why` says which; -EDOM: its contract contradicts itself; or another
        // negative errno.
        int (*admit)(struct node *node, const struct door_tenant *tenant, char *why, size_t size);
        // Another contract in the place of the tenant's, which lives on with what it had if it is refused.
        // Returns 0; or -EDQUOT or -EDOM with the reason, as for admit.
        int (*amend)(struct node *node, uint32_t tenant, const struct core_contract *contract, char *why,
                     size_t size);
        void (*account)(const struct node *node, uint32_t tenant, struct door_account *ret_account);
        void (*drop)(struct node *node, uint32_t tenant);
        uint32_t (*n_processes)(const struct node *node, uint32_t tenant);
        int (*knows)(const struct node *node, pid_t pid); // whether the process is any tenant's
        void (*rename)(struct node *node, uint32_t tenant, const char *name);
};

// What a door exports, as `takt_door`.
struct door {
        // Reads its configuration and opens. Returns 0, or a negative errno with the reason in `why`.
        int (*open)(struct node *node, const struct door_services *services, const char *dir,
                    const char *config, char *why, size_t size);
        // After each turn of the loop.
        void (*turn)(void);
        // Whether the process may join the tenant. Asked only of tenants that came through the door.
        int (*may_join)(uint32_t tenant, pid_t pid);
        // The daemon ends; tenants stay in their folders for the next one.
        void (*close)(void);
};
