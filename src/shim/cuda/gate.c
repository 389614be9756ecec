#include "shim/cuda/gate.h"
#include <pthread.h>
#include <string.h>
#include "base/clock.h"
#include "base/time.h"

#define DIRTY_MAX 16
#define MARKERS_MAX 8
#define KERNEL_GUESS_NS (20 * TAKT_US)
#define GRAPH_GUESS_NS (5 * TAKT_MS)

_Atomic stream_key gate_last = KEY_NONE;

// Work in flight is bounded by markers: events of ours behind pieces of work of estimated length.
struct marker {
        void *event;
        uint64_t estimate_ns;
        uint32_t n_launches;
};

static struct lane {
        pthread_mutex_t lock;
        stream_key dirty[DIRTY_MAX]; // streams with work that may not be done
        uintptr_t handle[DIRTY_MAX];
        int n_dirty;
        uint64_t began_ns, worked_ns; // the running burst; work since the last step's end
        void *context;                // whose events the markers are
        struct marker marker[MARKERS_MAX];
        uint32_t first, n_markers;
        uint64_t outstanding_ns, unmarked_ns;
        uint32_t n_unmarked;
        uint64_t kernel_ns; // learned time of one launch
} lanes[TAKT_PAGE_LANES] = {[0 ... TAKT_PAGE_LANES - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                                          .kernel_ns = KERNEL_GUESS_NS}};

static _Atomic int n_captures, lanes_used;
static __thread char this_thread __attribute__((tls_model("initial-exec")));

stream_key gate_key(uintptr_t handle)
{
        if (handle == HANDLE_PER_THREAD)
                return (stream_key)&this_thread | 1;
        return handle ? handle : HANDLE_LEGACY;
}

void gate_capture(int by)
{
        atomic_fetch_add(&n_captures, by);
}

// The driver's functions that we call on our own account.
static struct {
        int (*count)(int *), (*uuid)(uint8_t *, int), (*device)(int *), (*current)(void **);
        int (*is_capturing)(uintptr_t, int *), (*mode)(int *);
        int (*create)(void **, unsigned), (*record)(void *, uintptr_t), (*elapsed)(float *, void *, void *);
} driver;

static void find_driver(void)
{
        driver.count = door_driver("cuDeviceGetCount");
        driver.uuid = door_driver("cuDeviceGetUuid_v2");
        driver.device = door_driver("cuCtxGetDevice");
        driver.current = door_driver("cuCtxGetCurrent");
        driver.is_capturing = door_driver("cuStreamIsCapturing");
        driver.mode = door_driver("cuThreadExchangeStreamCaptureMode");
        driver.create = door_driver("cuEventCreate");
        driver.record = door_driver("cuEventRecord");
        driver.elapsed = door_driver("cuEventElapsedTime");
        if (!driver.uuid)
                driver.uuid = door_driver("cuDeviceGetUuid");
}

static void ready(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        door_open();
        pthread_once(&once, find_driver);
}

static int try_join(uint64_t now_ns)
{
        uint8_t uuids[TAKT_PAGE_LANES * 16] = {0};
        int n = 0;

        if (!driver.count || !driver.uuid || driver.count(&n))
                return -1;
        for (int i = 0; i < n && i < TAKT_PAGE_LANES; i++)
                driver.uuid(uuids + 16 * i, i);
        return lease_join(uuids, (uint32_t)n, now_ns);
}

static int lane_now(uint64_t now_ns)
{
        int device = -1, lane;

        if (!lease_wanted())
                return -1;
        ready();
        lease_check(now_ns);
        if (!atomic_load(&lease.daemon) && try_join(now_ns))
                return -1;
        if (!driver.device || driver.device(&device) || device < 0 || device >= TAKT_PAGE_LANES)
                return -1;
        lane = lease.lane_of[device];
        if (lane >= 0)
                atomic_fetch_or(&lanes_used, 1 << lane);
        return lane;
}

int gate_lane(void)
{
        return lane_now(takt_clock_now());
}

static int is_capturing(uintptr_t handle)
{
        int status = 0;

        return atomic_load(&n_captures) > 0 && driver.is_capturing && !driver.is_capturing(handle, &status) && status;
}

static struct takt_lane_client *page_of(int lane)
{
        return &lease.client->lane[lane];
}

static uint32_t gate_state(int lane)
{
        const struct takt_page_daemon *page = atomic_load_explicit(&lease.daemon, memory_order_acquire);

        return page ? TAKT_GATE_STATE(atomic_load_explicit(&page->lane[lane].gate, memory_order_acquire))
                    : TAKT_GATE_FREE;
}

// With the lock held. Returns whether the lane was idle.
static int add_dirty(struct lane *l, uintptr_t handle, stream_key key)
{
        for (int i = 0; i < l->n_dirty; i++)
                if (l->dirty[i] == key)
                        return 0;
        if (l->n_dirty == DIRTY_MAX) // more than we can tell apart: the last stands for all of them
                l->dirty[DIRTY_MAX - 1] = KEY_ANY;
        else
                l->dirty[l->n_dirty] = key, l->handle[l->n_dirty++] = handle;
        return l->n_dirty == 1;
}

static void remove_dirty(struct lane *l, stream_key key)
{
        for (int i = 0; i < l->n_dirty; i++)
                if (l->dirty[i] == key) {
                        l->dirty[i] = l->dirty[--l->n_dirty];
                        l->handle[i] = l->handle[l->n_dirty];
                        return;
                }
}

// With the lock held: the burst is over. Returns whether the daemon must hear of it.
static int end_burst(struct lane *l, int lane, uint64_t now_ns)
{
        struct takt_lane_client *page = page_of(lane);
        const struct takt_page_daemon *daemon = atomic_load(&lease.daemon);
        uint64_t span = takt_time_since(now_ns, l->began_ns);
        int step;

        l->worked_ns += span;
        step = l->worked_ns >= TAKT_STEP_NS;
        l->n_markers = l->n_unmarked = 0;
        l->outstanding_ns = l->unmarked_ns = 0;
        atomic_store_explicit(&gate_last, KEY_NONE, memory_order_relaxed);
        atomic_store_explicit(&page->busy_ns, page->busy_ns + span, memory_order_relaxed);
        if (step) {
                l->worked_ns = 0;
                atomic_store_explicit(&page->step_end_ns, now_ns, memory_order_relaxed);
                atomic_store_explicit(&page->steps, page->steps + 1, memory_order_relaxed);
        }
        atomic_store_explicit(&page->activity, takt_activity_idle(now_ns), memory_order_release);
        atomic_signal_fence(memory_order_seq_cst);
        if (gate_state(lane) == TAKT_GATE_CLOSED)
                return 1;
        return step && daemon && atomic_load_explicit(&daemon->lane[lane].waiters, memory_order_relaxed);
}

// Which of the streams with work are done? Asks the driver, without the lock.
static void clean(struct lane *l)
{
        stream_key keys[DIRTY_MAX];
        uintptr_t handles[DIRTY_MAX];
        int n, relaxed = 2;

        pthread_mutex_lock(&l->lock);
        n = l->n_dirty;
        memcpy(keys, l->dirty, sizeof keys);
        memcpy(handles, l->handle, sizeof handles);
        pthread_mutex_unlock(&l->lock);
        if (driver.mode)
                driver.mode(&relaxed);
        for (int i = 0; i < n; i++)
                if (!is_capturing(handles[i]) && REAL(cuStreamQuery, handles[i]) == CUDA_SUCCESS) {
                        pthread_mutex_lock(&l->lock);
                        remove_dirty(l, keys[i]);
                        pthread_mutex_unlock(&l->lock);
                }
        if (driver.mode)
                driver.mode(&relaxed);
}

void gate_done(stream_key key)
{
        int used = atomic_load_explicit(&lanes_used, memory_order_relaxed);

        if (!used || !atomic_load(&lease.daemon))
                return;
        for (int lane = 0; used >> lane; lane++) {
                struct lane *l = &lanes[lane];
                int kick = 0, was;

                if (!(used >> lane & 1) || !l->n_dirty)
                        continue;
                if (key == KEY_ANY || key == HANDLE_LEGACY)
                        clean(l);
                pthread_mutex_lock(&l->lock);
                was = l->n_dirty > 0 || key == KEY_ANY || key == HANDLE_LEGACY;
                if (key == KEY_ALL)
                        l->n_dirty = 0;
                else
                        remove_dirty(l, key);
                if (was && l->n_dirty == 0 && page_of(lane)->activity & 1)
                        kick = end_burst(l, lane, takt_clock_now());
                pthread_mutex_unlock(&l->lock);
                if (kick)
                        lease_kick();
        }
}

void gate_forget(stream_key key)
{
        for (int lane = 0; lane < TAKT_PAGE_LANES; lane++) {
                pthread_mutex_lock(&lanes[lane].lock);
                remove_dirty(&lanes[lane], key);
                pthread_mutex_unlock(&lanes[lane].lock);
        }
}

// The gate is closed and there is work in flight: it is waited for, so that the device can pass on.
static void drain(struct lane *l)
{
        uintptr_t handle;
        stream_key key;
        int relaxed = 2;

        if (driver.mode)
                driver.mode(&relaxed);
        for (;;) {
                pthread_mutex_lock(&l->lock);
                key = l->n_dirty ? l->dirty[l->n_dirty - 1] : KEY_NONE;
                handle = l->n_dirty ? l->handle[l->n_dirty - 1] : 0;
                pthread_mutex_unlock(&l->lock);
                if (key == KEY_NONE)
                        break;
                if (!is_capturing(handle))
                        REAL(cuStreamSynchronize, handle);
                gate_done(key);
                gate_forget(key);
        }
        if (driver.mode)
                driver.mode(&relaxed);
}

// Retracts what was published, if nothing else is in flight; else waits for that.
static void step_back(struct lane *l, int lane, stream_key key, int was_idle, uint64_t idle_since_ns)
{
        if (!was_idle) {
                drain(l);
                return;
        }
        pthread_mutex_lock(&l->lock);
        remove_dirty(l, key);
        if (!l->n_dirty)
                atomic_store_explicit(&page_of(lane)->activity, takt_activity_idle(idle_since_ns),
                                      memory_order_release);
        atomic_store_explicit(&gate_last, KEY_NONE, memory_order_relaxed);
        pthread_mutex_unlock(&l->lock);
}

static uint64_t estimate(const struct lane *l, enum hook hook)
{
        return hook == HOOK_cuGraphLaunch || hook == HOOK_cuGraphLaunch_ptsz ? GRAPH_GUESS_NS : l->kernel_ns;
}

// Waits for the oldest marker while one more piece would be more than the bound.
static void keep_bound(struct lane *l, uint64_t bound_ns, uint64_t piece_ns)
{
        struct marker oldest;
        int full;

        for (;;) {
                pthread_mutex_lock(&l->lock);
                full = l->n_markers && l->outstanding_ns + l->unmarked_ns + piece_ns > bound_ns;
                oldest = l->marker[l->first];
                pthread_mutex_unlock(&l->lock);
                if (!full)
                        return;
                REAL(cuEventSynchronize, oldest.event);
                pthread_mutex_lock(&l->lock);
                if (l->n_markers && l->marker[l->first].event == oldest.event) {
                        l->outstanding_ns = takt_time_since(l->outstanding_ns, oldest.estimate_ns);
                        l->first = (l->first + 1) % MARKERS_MAX;
                        l->n_markers--;
                }
                pthread_mutex_unlock(&l->lock);
        }
}

static uint64_t bound_of(int lane)
{
        const struct takt_page_daemon *page = atomic_load(&lease.daemon);

        return page ? atomic_load_explicit(&page->lane[lane].bound_ns, memory_order_relaxed) : 0;
}

static int refusal(void)
{
        return lease.refuse_on_loss ? CUDA_NOT_READY : CUDA_SUCCESS;
}

int gate_enter(enum hook hook, uintptr_t handle, stream_key key, int *ret_tracked)
{
        uint64_t now = 0, idle_since;
        struct lane *l;
        int lane, was_idle;

        *ret_tracked = 0;
        if (!lease_wanted())
                return door_open(), CUDA_SUCCESS;
        now = takt_clock_now();
        lane = lane_now(now);
        if (lane < 0)
                return atomic_load(&lease.daemon) ? CUDA_SUCCESS : refusal();
        if (is_capturing(handle))
                return CUDA_SUCCESS;
        l = &lanes[lane];
        for (;; now = takt_clock_now()) {
                pthread_mutex_lock(&l->lock);
                idle_since = takt_activity_idle(page_of(lane)->activity);
                was_idle = add_dirty(l, handle, key);
                if (was_idle) {
                        l->began_ns = now;
                        atomic_store_explicit(&page_of(lane)->activity, takt_activity_busy(now), memory_order_relaxed);
                }
                pthread_mutex_unlock(&l->lock);
                atomic_signal_fence(memory_order_seq_cst); // the daemon's membarrier does the rest
                if (gate_state(lane) != TAKT_GATE_CLOSED)
                        break;
                step_back(l, lane, key, was_idle, idle_since);
                if (lease_wait((unsigned)lane))
                        return refusal();
        }
        if (gate_state(lane) == TAKT_GATE_OPEN && bound_of(lane))
                keep_bound(l, bound_of(lane), estimate(l, hook));
        // With two devices in use a handle such as 0 names a stream on each: then every submission is looked at.
        atomic_store_explicit(&gate_last,
                              __builtin_popcount((unsigned)atomic_load(&lanes_used)) == 1 && handle != HANDLE_PER_THREAD
                                      ? handle
                                      : KEY_NONE,
                              memory_order_relaxed);
        *ret_tracked = lane + 1;
        return CUDA_SUCCESS;
}

// The time between two markers of one uninterrupted row of work teaches what one launch takes.
static void learn(struct lane *l)
{
        struct marker *last, *before;
        float ms = 0;

        if (l->n_markers < 2)
                return;
        before = &l->marker[l->first];
        last = &l->marker[(l->first + 1) % MARKERS_MAX];
        if (driver.elapsed(&ms, before->event, last->event) == CUDA_SUCCESS && last->n_launches)
                l->kernel_ns = (3 * l->kernel_ns + (uint64_t)((double)ms * 1e6) / last->n_launches) / 4 + 1;
}

static void *marker_event(struct lane *l, uint32_t at)
{
        void *context = NULL;

        driver.current(&context);
        if (context != l->context) { // events belong to a context; the old ones are left to it
                memset(l->marker, 0, sizeof l->marker);
                l->context = context;
                l->n_markers = 0;
        }
        if (!l->marker[at].event)
                driver.create(&l->marker[at].event, 1); // blocking sync: waiting costs no CPU
        return l->marker[at].event;
}

static void mark(struct lane *l, uintptr_t handle)
{
        uint32_t at = (l->first + l->n_markers) % MARKERS_MAX;
        void *event = l->n_markers < MARKERS_MAX ? marker_event(l, at) : NULL;

        if (!event || driver.record(event, handle) != CUDA_SUCCESS)
                return;
        learn(l);
        l->marker[at].estimate_ns = l->unmarked_ns;
        l->marker[at].n_launches = l->n_unmarked;
        l->n_markers++;
        l->outstanding_ns += l->unmarked_ns;
        l->unmarked_ns = 0;
        l->n_unmarked = 0;
}

void gate_leave(enum hook hook, uintptr_t handle, int tracked)
{
        int lane = tracked - 1;
        struct lane *l = &lanes[lane];

        if (gate_state(lane) == TAKT_GATE_FREE || !bound_of(lane))
                return;
        pthread_mutex_lock(&l->lock);
        l->unmarked_ns += estimate(l, hook);
        l->n_unmarked++;
        if (l->unmarked_ns >= bound_of(lane) / 2 && driver.create && driver.record && driver.elapsed)
                mark(l, handle);
        pthread_mutex_unlock(&l->lock);
}
