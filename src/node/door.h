// A door: a way by which tenants come other than the control socket. It lies in a library of its own, loaded
// only where it is asked for; this is what the daemon and a door know of each other.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/histogram.h"
#include "core/contract.h"

struct node;

// Something that epoll watches; `ready` is called when there is news. Its storage must stay: news may come
// once more after it was removed, within the same turn of the loop, and then finds fd = -1 or other news.
struct watch {
        int fd;    // -1: none
        int epoll; // where it is watched
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

#define DOOR_DEVICES_MAX 16
#define DOOR_TENANTS_MAX 256

// What devices and tenants did, as of now; a tenant's since it was admitted, a device's since the daemon
// began. Times in ns; what counts up never goes back.
struct door_snapshot {
        const char *version; // the daemon's
        uint32_t n_devices, n_tenants;
        struct door_device_account {
                uint64_t held_ns, idle_ns, switch_ns, switches;
                uint64_t promised_bytes;
                uint32_t promised_ppm;
                uint8_t bypass; // first come, first served: the watchdog bit
        } device[DOOR_DEVICES_MAX];
        struct door_tenant_account {
                const char *name;
                uint32_t number, device, n_processes, share_ppm;
                uint8_t by_door;
                uint64_t busy_ns; // device time used
                uint64_t held_ns, wait_ns;
                uint64_t tail_ns; // work that went on after its slices had ended
                uint64_t slices, steps, overruns;
                uint64_t switches;                  // slices that took the device over from another tenant
                uint64_t requests, in_time, late;   // seen; and of those with a deadline
                uint64_t memory_bytes, quota_bytes; // quota 0: none
                const struct takt_histogram *waits; // for each slice
        } tenant[DOOR_TENANTS_MAX];
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
        // Whether such a tenant would be admitted now.
        int (*would_admit)(const struct node *node, uint32_t device, const struct core_contract *contract);
        // Another contract in the place of the tenant's, which lives on with what it had if it is refused.
        // Returns 0; or -EDQUOT or -EDOM with the reason, as for admit.
        int (*amend)(struct node *node, uint32_t tenant, const struct core_contract *contract, char *why,
                     size_t size);
        void (*account)(const struct node *node, uint32_t tenant, struct door_account *ret_account);
        void (*drop)(struct node *node, uint32_t tenant);
        uint32_t (*n_processes)(const struct node *node, uint32_t tenant);
        int (*knows)(const struct node *node, pid_t pid); // whether the process is any tenant's
        void (*rename)(struct node *node, uint32_t tenant, const char *name);
        // What it points to is the daemon's, and as it is only until the door returns.
        void (*look)(struct node *node, struct door_snapshot *ret);
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
