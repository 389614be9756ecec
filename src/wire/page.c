#include "wire/page.h"

void takt_page_read_lane(const struct takt_page_client *page, unsigned lane, uint64_t now_ns,
                         struct takt_lane_view *ret_view)
{
        const struct takt_lane_client *from = &page->lane[lane % TAKT_PAGE_LANES];
        uint64_t activity = atomic_load_explicit(&from->activity, memory_order_acquire);

        ret_view->busy = (int)(activity & 1);
        ret_view->since_ns = takt_activity_idle(activity);
        if (ret_view->since_ns > now_ns)
                ret_view->since_ns = now_ns;
        ret_view->busy_ns = atomic_load_explicit(&from->busy_ns, memory_order_relaxed);
        ret_view->memory_used = atomic_load_explicit(&from->memory_used, memory_order_relaxed);
        ret_view->steps = atomic_load_explicit(&from->steps, memory_order_relaxed);
        ret_view->want = atomic_load_explicit(&from->want, memory_order_acquire);
}
