// Whatever a client writes into its page: what the daemon believes of it is in range.
#include <string.h>
#include "base/time.h"
#include "bytes.h"
#include "wire/page.h"

static struct takt_page_client page;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct bytes b = {data, data + size};
        uint64_t now_ns = bytes_take_scaled(&b);
        unsigned lane = bytes_take(&b) % TAKT_PAGE_LANES;
        struct takt_lane_client *from = &page.lane[lane];
        struct takt_lane_view view;
        size_t rest = (size_t)(b.end - b.at);

        memset(&page, (int)lane, sizeof page);
        memcpy(from, b.at, rest < sizeof *from ? rest : sizeof *from);
        takt_page_read_lane(&page, lane, now_ns, &view);
        MUST(view.busy == (int)(from->activity & 1));
        MUST(view.since_ns == takt_time_min(now_ns, takt_activity_idle(from->activity)));
        MUST(view.busy_ns == from->busy_ns && view.memory_used == from->memory_used);
        MUST(view.steps == from->steps && view.want == from->want);
        return 0;
}
