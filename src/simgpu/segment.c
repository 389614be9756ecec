#include "simgpu/segment.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include "simgpu/profile.h"
#include "simgpu/settings.h"

#define MAGIC 0x53494d47u // "SIMG"
#define VERSION 2u
#define SHORTEST_SLEEP_NS UINT64_C(20000) // going to sleep and waking up takes as long
#define POOL_FACTOR 4                     // addresses to bytes: real memory is paged and does not fragment
#define POOL_AT ((sizeof(struct sim_segment) + (2u << 20) - 1) & ~(size_t)((2u << 20) - 1))
#define SMALLEST_SHM (UINT64_C(1) << 30)    // a container's default of 64 MB would end in SIGBUS
#define LONGEST_SLEEP_NS UINT64_C(20000000) // others may die and so finish us sooner than thought

static uint64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint32_t sim_devices(void)
{
        return (uint32_t)sim_number("SIMGPU_DEVICES");
}

const char *sim_segment_name(uint32_t device)
{
        static __thread char name[64];
        const char *text = sim_setting("SIMGPU_NAME");

        text = text && *text ? text : "simgpu0";
        if (device)
                snprintf(name, sizeof name, "/%s-%u", text, device);
        else
                snprintf(name, sizeof name, "/%s", text);
        return name;
}

static uint64_t slice_ns(void)
{
        uint64_t policy = sim_number("SIMGPU_POLICY");

        return policy ? policy : sim_number("SIMGPU_SLICE_US");
}

static int shm_is_small(int fd)
{
        struct statvfs fs;

        return fstatvfs(fd, &fs) || fs.f_bavail * fs.f_frsize < SMALLEST_SHM;
}

static void make(struct sim_segment *s, int fd)
{
        pthread_mutexattr_t attributes;

        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&s->lock, &attributes);
        s->version = VERSION;
        s->memory_bytes = sim_number("SIMGPU_MEMORY_MIB") << 20;
        s->n_lanes = (uint32_t)sim_number("SIMGPU_CONCURRENT");
        s->cleared = (uint32_t)(sim_number("SIMGPU_CLEARED") || shm_is_small(fd) ||
                                ftruncate(fd, (off_t)(POOL_AT + s->memory_bytes * POOL_FACTOR)));
        s->pool.bytes = s->memory_bytes * POOL_FACTOR;
        s->ecc = (uint32_t)sim_number("SIMGPU_ECC");
        s->confidential = (uint32_t)sim_number("SIMGPU_CC");
        s->device.now_ns = s->device.sample_ns = now_ns();
        s->device.slice_ns = slice_ns();
        s->device.switch_ns = sim_number("SIMGPU_SWITCH_US");
        s->device.mps = (uint32_t)sim_number("SIMGPU_MPS");
        s->device.owner = -1;
}

// 0, or -EPROTO for what is no device, or one of another version of this library.
static int await_magic(const struct sim_segment *s)
{
        for (int i = 0; i < 1000 && __atomic_load_n(&s->magic, __ATOMIC_ACQUIRE) != MAGIC; i++)
                usleep(1000);
        return s->magic == MAGIC && s->version == VERSION ? 0 : -EPROTO;
}

// All of the device's memory, out of reach; what belongs to this process is mapped once more. No descriptor
// is kept: there are programs that close what they do not know.
static void *pool_base[SIM_DEVICES_MAX];

static int map_pool(const struct sim_segment *s, uint32_t device, int fd)
{
        void *base;

        if (s->cleared || pool_base[device])
                return 0;
        base = mmap(NULL, s->pool.bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)POOL_AT);
        if (base == MAP_FAILED)
                return -errno;
        pool_base[device] = base;
        return 0;
}

void *sim_segment_map(uint32_t device, uint64_t offset, uint64_t bytes, void *at)
{
        void *from = (char *)pool_base[device] + offset;
        void *base = at ? mremap(from, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at)
                        : mremap(from, 0, bytes, MREMAP_MAYMOVE);

        if (base == MAP_FAILED)
                return NULL;
        return mprotect(base, bytes, PROT_READ | PROT_WRITE) ? NULL : base;
}

// The file is as large as the state, at least. 0, or a negative errno.
static int await_size(int fd)
{
        struct stat stat;

        for (int i = 0; i < 1000; i++) {
                if (fstat(fd, &stat) < 0)
                        return -errno;
                if (stat.st_size >= (off_t)sizeof(struct sim_segment))
                        return 0;
                usleep(1000);
        }
        return -EPROTO;
}

static int set_size(int fd)
{
        return ftruncate(fd, sizeof(struct sim_segment)) < 0 ? -errno : 0;
}

// Others have the device from the magic number on, so all that can fail comes before it.
static int set_up(uint32_t device, int fd, int is_creator, struct sim_segment **ret)
{
        int error = is_creator ? set_size(fd) : await_size(fd);
        struct sim_segment *s;

        if (error)
                return error;
        s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (s == MAP_FAILED)
                return -errno;
        if (is_creator)
                make(s, fd);
        else
                error = await_magic(s);
        if (!error)
                error = map_pool(s, device, fd);
        if (error)
                return munmap(s, sizeof *s), error;
        if (is_creator)
                __atomic_store_n(&s->magic, MAGIC, __ATOMIC_RELEASE);
        *ret = s;
        return 0;
}

// Whoever creates the file makes it; others wait for the magic number, which takes microseconds.
struct sim_segment *sim_segment_open(uint32_t device)
{
        const char *name = sim_segment_name(device);
        struct sim_segment *s = NULL;
        int fd, is_creator, error;

        if (sim_settings_check())
                return errno = EINVAL, NULL;
        fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        is_creator = fd >= 0;
        if (!is_creator)
                fd = shm_open(name, O_RDWR | O_CLOEXEC, 0);
        if (fd < 0)
                return NULL;
        error = set_up(device, fd, is_creator, &s);
        close(fd);
        if (error && is_creator)
                shm_unlink(name);
        if (error)
                errno = -error;
        return s;
}

// The last interval grows while the same context goes on.
static void log_interval(void *arg, const struct sim_log_entry *entry)
{
        struct sim_segment *s = arg;
        struct sim_log_entry *last = s->n_log ? &s->log[(s->n_log - 1) % SIM_LOG_MAX] : NULL;
        struct sim_log_entry *next;

        if (last && last->end_ns == entry->start_ns && last->context == entry->context &&
            last->kind == entry->kind && last->n_runnable == entry->n_runnable) {
                last->end_ns = entry->end_ns;
                return;
        }
        next = &s->log[s->n_log++ % SIM_LOG_MAX];
        *next = *entry;
        next->pid = s->process[s->device.context[entry->context].process].pid;
}

void sim_segment_lock(struct sim_segment *s)
{
        if (pthread_mutex_lock(&s->lock) == EOWNERDEAD)
                pthread_mutex_consistent(&s->lock);
        if (!s->lost)
                sim_device_advance(&s->device, now_ns(), log_interval, s);
}

void sim_segment_unlock(struct sim_segment *s)
{
        pthread_mutex_unlock(&s->lock);
}

// Field 22 of /proc/PID/stat; 0 when the process is gone.
static uint64_t started(uint32_t pid)
{
        char path[32], text[512], *at;
        unsigned long long start = 0;
        size_t n;
        FILE *file;

        snprintf(path, sizeof path, "/proc/%u/stat", pid);
        if (!(file = fopen(path, "re")))
                return 0;
        n = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[n] = 0;
        at = strrchr(text, ')');
        if (!at || at[2] == 'Z' || at[2] == 'X')
                return 0;
        at++;
        for (int field = 3; field < 22 && at; field++)
                at = strchr(at + 1, ' ');
        if (at)
                sscanf(at, "%llu", &start);
        return start;
}

static void drop(struct sim_segment *s, uint32_t p)
{
        for (uint32_t c = 0; c < SIM_CONTEXTS_MAX; c++)
                if (s->device.context[c].used && s->device.context[c].process == p)
                        memset(&s->device.context[c], 0, sizeof s->device.context[c]);
        sim_pool_drop(&s->pool, p);
        s->memory_used_bytes -= s->process[p].memory_bytes;
        memset(&s->process[p], 0, sizeof s->process[p]);
}

void sim_segment_sweep(struct sim_segment *s)
{
        for (uint32_t p = 0; p < SIM_PROCESSES_MAX; p++)
                if (s->process[p].pid && started(s->process[p].pid) != s->process[p].started)
                        drop(s, p);
}

int sim_segment_process(struct sim_segment *s)
{
        uint32_t pid = (uint32_t)getpid();
        int free = -1;

        for (int p = 0; p < SIM_PROCESSES_MAX; p++) {
                if (s->process[p].pid == pid)
                        return p;
                if (!s->process[p].pid && free < 0)
                        free = p;
        }
        if (free < 0)
                return -1;
        s->process[free].pid = pid;
        s->process[free].started = started(pid);
        prctl(PR_GET_NAME, s->process[free].name);
        return free;
}

int sim_segment_context(struct sim_segment *s)
{
        int process;

        sim_segment_sweep(s);
        process = sim_segment_process(s);
        if (process < 0)
                return -1;
        for (int c = 0; c < SIM_CONTEXTS_MAX; c++)
                if (!s->device.context[c].used) {
                        s->device.context[c] = (struct sim_context){.used = 1, .process = (uint32_t)process};
                        return c;
                }
        return -1;
}

void sim_segment_xid(struct sim_segment *s, uint32_t xid)
{
        s->xid[s->n_xids++ % SIM_XIDS_MAX] = xid;
}

// A copy that waits for its work does not hold up those behind it, but uses up the engine's time all the
// same.
uint64_t sim_segment_copy(struct sim_segment *s, int engine, uint64_t from_ns, uint64_t cost_ns)
{
        struct sim_engine *e = &s->engine[engine];
        uint64_t start = from_ns > e->free_at_ns ? from_ns : e->free_at_ns;

        if (s->copy_slowdown > 1)
                cost_ns *= s->copy_slowdown;
        if (e->free_at_ns < s->device.now_ns)
                e->free_at_ns = s->device.now_ns;
        e->free_at_ns += cost_ns;
        e->busy_ns += cost_ns;
        return start + cost_ns;
}

static void sleep_until(uint64_t when_ns)
{
        struct timespec t = {.tv_sec = (time_t)(when_ns / 1000000000u),
                             .tv_nsec = (long)(when_ns % 1000000000u)};

        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void spin_until(uint64_t when_ns)
{
        while (now_ns() < when_ns)
                ;
}

void sim_wait_until(uint64_t when_ns, int spins)
{
        if (spins)
                spin_until(when_ns);
        else if (when_ns > now_ns() + SHORTEST_SLEEP_NS)
                sleep_until(when_ns);
}

// Waits until the predicted end and looks again: others may have come in between.
int sim_segment_wait(struct sim_segment *s, uint32_t context, uint32_t lane, uint64_t position_ns, int spins)
{
        int slack = 0, lost, done, hung; // slack 0: we have not slept
        uint64_t when, latest;

        for (;;) {
                sim_segment_lock(s);
                lost = s->lost != 0;
                done = s->device.context[context].lane[lane].done_ns >= position_ns;
                when = done || lost ? 0 : sim_device_when(&s->device, context, lane, position_ns);
                latest = s->device.now_ns + LONGEST_SLEEP_NS;
                hung = when == UINT64_MAX;
                if (hung)
                        sim_segment_sweep(s);
                sim_segment_unlock(s);
                if (done || lost)
                        break;
                when = when < latest ? when : latest;
                if (spins) {
                        spin_until(when);
                        continue;
                }
                if (!slack) {
                        slack = prctl(PR_GET_TIMERSLACK);
                        prctl(PR_SET_TIMERSLACK, 1);
                }
                sleep_until(when);
        }
        if (slack)
                prctl(PR_SET_TIMERSLACK, slack);
        return done ? 0 : -EIO;
}
