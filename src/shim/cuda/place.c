#include "shim/cuda/place.h"
#include <pthread.h>
#include "base/clock.h"
#include "shim/cuda/lane.h"
#include "shim/cuda/ledger.h"
#include "shim/lease.h"

struct driver driver;
_Atomic unsigned place_lanes;

static _Atomic unsigned changes = 1;

static void find(void)
{
#define FIND(field, name) driver.field = door_driver(name)
        FIND(device_count, "cuDeviceGetCount");
        FIND(device_uuid, "cuDeviceGetUuid_v2");
        if (!driver.device_uuid)
                FIND(device_uuid, "cuDeviceGetUuid");
        FIND(current_device, "cuCtxGetDevice");
        FIND(current_context, "cuCtxGetCurrent");
        FIND(push, "cuCtxPushCurrent_v2");
        FIND(pop, "cuCtxPopCurrent_v2");
        FIND(synchronize, "cuCtxSynchronize");
        FIND(stream_context, "cuStreamGetCtx");
        FIND(stream_green, "cuStreamGetGreenCtx");
        FIND(is_capturing, "cuStreamIsCapturing");
        FIND(capture_mode, "cuThreadExchangeStreamCaptureMode");
        FIND(event_create, "cuEventCreate");
        FIND(event_destroy, "cuEventDestroy_v2");
        FIND(event_record, "cuEventRecord");
        FIND(event_elapsed, "cuEventElapsedTime");
        FIND(primary_retain, "cuDevicePrimaryCtxRetain");
        FIND(primary_release, "cuDevicePrimaryCtxRelease_v2");
        FIND(primary_state, "cuDevicePrimaryCtxGetState");
}

void place_ready(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        static _Atomic int done;

        if (atomic_load_explicit(&done, memory_order_acquire))
                return;
        door_open();
        pthread_once(&once, find);
        atomic_store_explicit(&done, 1, memory_order_release);
}

void place_changed(void)
{
        atomic_fetch_add(&changes, 1);
}

static int try_join(uint64_t now_ns)
{
        uint8_t uuids[TAKT_PAGE_LANES * 16] = {0};
        int n = 0;

        if (!driver.device_count || !driver.device_uuid || driver.device_count(&n))
                return -1;
        for (int i = 0; i < n && i < TAKT_PAGE_LANES; i++)
                driver.device_uuid(uuids + 16 * i, i);
        return lease_join(uuids, (uint32_t)n, now_ns);
}

// The device of the current context, remembered by the thread while its context stays.
static int device_of(void *context)
{
        static __thread struct {
                void *context;
                unsigned changes;
                int device;
        } last __attribute__((tls_model("initial-exec")));
        unsigned now = atomic_load_explicit(&changes, memory_order_relaxed);
        int device = -1;

        if (last.context == context && last.changes == now)
                return last.device;
        if (!driver.current_device || driver.current_device(&device))
                return -1;
        last.context = context;
        last.changes = now;
        last.device = device;
        return device;
}

// Apart from the way of a thread that finds a session. Returns whether Takt is wanted at all.
static __attribute__((noinline)) int arrive(void)
{
        uint64_t now_ns = takt_clock_now();

        if (!lease_wanted())
                return 0;
        place_ready();
        if (lease_is_due(now_ns) && !try_join(now_ns)) {
                work_joined();
                ledger_joined();
        }
        return 1;
}

void place_join(void)
{
        if (!atomic_load_explicit(&lease.daemon, memory_order_acquire))
                arrive();
}

int place_device(void **ret_context)
{
        int device;

        *ret_context = NULL;
        if (!atomic_load_explicit(&lease.daemon, memory_order_acquire) && !arrive())
                return -1;
        if (!driver.current_context || driver.current_context(ret_context) || !*ret_context)
                return -1;
        device = device_of(*ret_context);
        return device < TAKT_PAGE_LANES ? device : -1;
}

int place_enter(void *context)
{
        return driver.push && driver.pop ? driver.push(green_primary(context)) : CUDA_NOT_SUPPORTED;
}

void place_leave(void)
{
        void *context;

        driver.pop(&context);
}

int place_stream(uintptr_t handle, void **ret_context)
{
        void *context = NULL;
        int device = place_device(ret_context);

        if (handle <= HANDLE_PER_THREAD || !lease_wanted() || !driver.stream_context ||
            driver.stream_context(handle, &context) || !context || context == *ret_context ||
            place_enter(context))
                return device;
        device = place_device(ret_context);
        place_leave();
        return device;
}

struct place place_now(uint64_t now_ns, uintptr_t handle)
{
        struct place place = {.lane = -1};

        if (now_ns)
                lease_check(now_ns);
        place.device = place_stream(handle, &place.context);
        if (place.device < 0)
                return place;
        place.lane = atomic_load(&lease.daemon) ? lease.lane_of[place.device] : -1;
        if (place.lane >= 0 && !(atomic_load_explicit(&place_lanes, memory_order_relaxed) >> place.lane & 1))
                atomic_fetch_or(&place_lanes, 1u << place.lane);
        return place;
}
