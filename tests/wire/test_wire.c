// wire: the pages' layout is an ABI; nothing that a peer sends can hurt the reader.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "wire/frame.h"
#include "wire/page.h"
#include "wire/request.h"

static void pages_have_their_layout(void **state)
{
        (void)state;
        assert_int_equal(sizeof(struct takt_lane_daemon), 128);
        assert_int_equal(sizeof(struct takt_lane_client), 128);
        assert_true(sizeof(struct takt_page_daemon) <= TAKT_PAGE_SIZE);
        assert_true(sizeof(struct takt_page_client) <= TAKT_PAGE_SIZE);
        assert_true(sizeof(struct takt_page_tenant) <= TAKT_PAGE_SIZE);
        assert_int_equal(offsetof(struct takt_page_daemon, attention), 12);
        assert_int_equal(offsetof(struct takt_page_daemon, tenant), 16);
        assert_int_equal(offsetof(struct takt_page_daemon, generation), 24);
        assert_int_equal(offsetof(struct takt_page_daemon, lane), 256);
        assert_int_equal(offsetof(struct takt_page_client, lane), 256);
        assert_int_equal(offsetof(struct takt_page_tenant, lane), 256);
        assert_int_equal(offsetof(struct takt_lane_daemon, gate), 0);
        assert_int_equal(offsetof(struct takt_lane_daemon, waiters), 4);
        assert_int_equal(offsetof(struct takt_lane_daemon, bound_ns), 8);
        assert_int_equal(offsetof(struct takt_lane_daemon, memory_quota), 16);
        assert_int_equal(offsetof(struct takt_lane_client, activity), 0);
        assert_int_equal(offsetof(struct takt_lane_client, busy_ns), 8);
        assert_int_equal(offsetof(struct takt_lane_client, step_end_ns), 16);
        assert_int_equal(offsetof(struct takt_lane_client, launches), 24);
        assert_int_equal(offsetof(struct takt_lane_client, memory_used), 32);
        assert_int_equal(offsetof(struct takt_lane_client, steps), 40);
        assert_int_equal(offsetof(struct takt_lane_client, want), 44);
        assert_int_equal(offsetof(struct takt_lane_client, drain_ns), 48);
}

static void frames_have_their_layout(void **state)
{
        (void)state;
        assert_int_equal(sizeof(struct takt_frame_head), 16);
        assert_int_equal(sizeof(struct takt_frame_join), 24 + 16 * 16);
        assert_int_equal(sizeof(struct takt_frame_welcome), 40);
        assert_int_equal(sizeof(struct takt_frame_refused), 24);
        assert_int_equal(offsetof(struct takt_frame_join, uuid), 24);
        assert_int_equal(offsetof(struct takt_frame_welcome, lane), 24);
}

static void activity_from_the_future_is_now(void **state)
{
        static struct takt_page_client page;
        struct takt_lane_view view;

        (void)state;
        page.lane[3].activity = takt_activity_busy(UINT64_MAX);
        page.lane[3].want = 2;
        takt_page_read_lane(&page, 3, 1000, &view);
        assert_int_equal(view.busy, 1);
        assert_int_equal(view.since_ns, 1000);
        assert_int_equal(view.want, 2);
        page.lane[3].activity = takt_activity_idle(501);
        takt_page_read_lane(&page, 3, 1000, &view);
        assert_int_equal(view.busy, 0);
        assert_int_equal(view.since_ns, 500);
}

static void frame_survives_the_way(void **state)
{
        union takt_frame a, b;
        size_t size = takt_frame_init(&a, TAKT_FRAME_JOIN);

        (void)state;
        a.join.n_devices = 2;
        a.join.uuid[1][15] = 9;
        assert_int_equal(takt_frame_parse(&a, size, &b), 0);
        assert_int_equal(b.join.n_devices, 2);
        assert_int_equal(b.join.uuid[1][15], 9);
        assert_int_equal(takt_frame_init(&a, 77), 0);
}

static void frame_of_a_later_minor_is_read(void **state)
{
        struct {
                struct takt_frame_refused known;
                uint64_t later;
        } data = {0};
        union takt_frame a, b;

        (void)state;
        takt_frame_init(&a, TAKT_FRAME_REFUSED);
        data.known = a.refused;
        data.known.head.minor = 9;
        data.known.head.size = sizeof data;
        data.known.reason = TAKT_REFUSAL_FULL;
        assert_int_equal(takt_frame_parse(&data, sizeof data, &b), 0);
        assert_int_equal(b.refused.reason, TAKT_REFUSAL_FULL);
        assert_int_equal(b.head.minor, 9);
}

static void bad_frames_are_told_apart(void **state)
{
        union takt_frame a, b;
        size_t size = takt_frame_init(&a, TAKT_FRAME_JOIN);

        (void)state;
        for (size_t cut = 0; cut < size; cut++)
                assert_int_equal(takt_frame_parse(&a, cut, &b), -EBADMSG);
        a.join.n_devices = 17;
        assert_int_equal(takt_frame_parse(&a, size, &b), -EBADMSG);
        a.join.n_devices = 1;
        a.head.magic ^= 1;
        assert_int_equal(takt_frame_parse(&a, size, &b), -EBADMSG);
        a.head.magic ^= 1;
        a.head.type = 0;
        assert_int_equal(takt_frame_parse(&a, size, &b), -EBADMSG);
        a.head.type = TAKT_FRAME_JOIN;
        a.head.major++;
        assert_int_equal(takt_frame_parse(&a, size, &b), -EPROTONOSUPPORT);
}

static int parse(const char *line, struct takt_request_line *ret)
{
        return takt_request_parse(line, strlen(line), ret);
}

static void request_lines_are_read(void **state)
{
        struct takt_request_line a, b;

        (void)state;
        assert_int_equal(parse("{\"event\":\"arrived\",\"id\":\"42\"}", &a), 0);
        assert_int_equal(a.event, TAKT_REQUEST_ARRIVED);
        assert_int_equal(a.deadline_ns, 0);
        assert_int_equal(
                parse(" { \"id\" : \"42\" , \"event\" : \"first_token\" , \"model\":\"x\", \"n\": 3 } \r",
                      &b),
                0);
        assert_int_equal(b.event, TAKT_REQUEST_FIRST_TOKEN);
        assert_true(a.id == b.id);
        assert_int_equal(parse("{\"event\":\"arrived\",\"id\":\"43\",\"deadline_ms\":1.5}", &b), 0);
        assert_int_equal(b.deadline_ns, 1500000);
        assert_true(a.id != b.id);
}

static void bad_request_lines_are_refused(void **state)
{
        static const char *const bad[] = {
                "",
                "{",
                "{}",
                "[]",
                "{\"event\":\"arrived\"}",
                "{\"id\":\"1\"}",
                "{\"event\":\"died\",\"id\":\"1\"}",
                "{\"event\":\"arrived\",\"id\":1}",
                "{\"event\":3,\"id\":\"1\"}",
                "{\"event\":\"arrived\",\"id\":\"1\"",
                "{\"event\":\"arrived\",\"id\":\"1}",
                "{\"event\":\"arrived\",\"id\":\"1\"} x",
                "{\"event\":\"arrived\",\"id\":\"1\",}",
                "{\"event\":\"arrived\",\"event\":\"arrived\",\"id\":\"1\"}",
                "{\"event\":\"arrived\",\"id\":\"1\",\"deadline_ms\":-1}",
                "{\"event\":\"arrived\",\"id\":\"1\",\"deadline_ms\":\"1\"}",
                "{\"event\":\"arrived\",\"id\":\"1\",\"deadline_ms\":99999999999}",
                "{\"event\":\"arrived\",\"id\":\"1\",\"deadline_ms\":1000000000.5}",
                "{\"event\":\"arrived\",\"id\":\"a\\\x1f\"}",
                "{\"event\":\"arrived\",\"id\":\"1\\",
                "{\"event\":\"arrived\",\"id\":\"\n\"}",
        };
        struct takt_request_line line;
        char large[TAKT_REQUEST_LINE_MAX + 2];

        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (parse(bad[i], &line) != -EBADMSG)
                        fail_msg("accepted: %s", bad[i]);
        memset(large, ' ', sizeof large);
        memcpy(large, "{\"event\":\"arrived\",\"id\":\"1\"}", 28);
        assert_int_equal(takt_request_parse(large, sizeof large - 2, &line), 0);
        assert_int_equal(takt_request_parse(large, sizeof large - 1, &line), -EBADMSG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(pages_have_their_layout),
                cmocka_unit_test(frames_have_their_layout),
                cmocka_unit_test(activity_from_the_future_is_now),
                cmocka_unit_test(frame_survives_the_way),
                cmocka_unit_test(frame_of_a_later_minor_is_read),
                cmocka_unit_test(bad_frames_are_told_apart),
                cmocka_unit_test(request_lines_are_read),
                cmocka_unit_test(bad_request_lines_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
