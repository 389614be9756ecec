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

// Every field, so that none moves and none is added unseen.
static void pages_have_no_other_fields(void **state)
{
        (void)state;
        assert_int_equal(offsetof(struct takt_page_daemon, magic), 0);
        assert_int_equal(offsetof(struct takt_page_daemon, major), 4);
        assert_int_equal(offsetof(struct takt_page_daemon, minor), 6);
        assert_int_equal(offsetof(struct takt_page_daemon, features), 8);
        assert_int_equal(offsetof(struct takt_page_daemon, reserved0), 32);
        assert_int_equal(offsetof(struct takt_page_daemon, answers), 64);
        assert_int_equal(offsetof(struct takt_page_daemon, reserved), 68);
        assert_int_equal(offsetof(struct takt_page_client, magic), 0);
        assert_int_equal(offsetof(struct takt_page_client, pid), 4);
        assert_int_equal(offsetof(struct takt_page_client, reserved), 8);
        assert_int_equal(offsetof(struct takt_page_tenant, magic), 0);
        assert_int_equal(offsetof(struct takt_page_tenant, reserved0), 4);
        assert_int_equal(offsetof(struct takt_page_tenant, reserved), 8);
        assert_int_equal(offsetof(struct takt_page_tenant, lane[0].memory_used), 256);
        assert_int_equal(offsetof(struct takt_page_tenant, lane[0].reserved), 256 + 8);
        assert_int_equal(offsetof(struct takt_page_tenant, lane[1].memory_used), 256 + 64);
        assert_int_equal(sizeof(((struct takt_page_tenant *)0)->lane[0].memory_used), 8);
        assert_int_equal(offsetof(struct takt_lane_daemon, reserved), 24);
        assert_int_equal(offsetof(struct takt_lane_client, reserved), 56);
        assert_int_equal(sizeof(struct takt_page_daemon), 256 + 16 * 128);
        assert_int_equal(sizeof(struct takt_page_client), 256 + 16 * 128);
        assert_int_equal(sizeof(struct takt_page_tenant), 256 + 16 * 64);
        assert_int_equal(TAKT_PAGE_LANES, 16);
        assert_int_equal(TAKT_WIRE_DEVICES, 16);
}

static void heads_have_their_layout(void **state)
{
        union takt_frame frame;
        const uint8_t wanted[16] = {0x54, 0x41, 0x4b, 0x54, 1, 0, 0x18, 1, 1, 0, 1, 0, 0, 0, 0, 0};

        (void)state;
        assert_int_equal(offsetof(struct takt_frame_head, type), 4);
        assert_int_equal(offsetof(struct takt_frame_head, size), 6);
        assert_int_equal(offsetof(struct takt_frame_head, major), 8);
        assert_int_equal(offsetof(struct takt_frame_head, minor), 10);
        assert_int_equal(offsetof(struct takt_frame_head, features), 12);
        assert_int_equal(offsetof(struct takt_frame_join, n_devices), 16);
        assert_int_equal(offsetof(struct takt_frame_welcome, tenant), 16);
        assert_int_equal(offsetof(struct takt_frame_refused, reason), 16);
        assert_int_equal(takt_frame_init(&frame, TAKT_FRAME_JOIN), 280);
        assert_memory_equal(&frame, wanted, sizeof wanted); // "TAKT", JOIN, 280 bytes, version 1.1
        for (size_t i = sizeof wanted; i < sizeof frame; i++)
                assert_int_equal(((const uint8_t *)&frame)[i], 0);
        assert_int_equal(takt_frame_init(&frame, TAKT_FRAME_WELCOME), 40);
        assert_int_equal(takt_frame_init(&frame, TAKT_FRAME_REFUSED), 24);
        assert_int_equal(takt_frame_init(&frame, 0), 0);
}

static void ends_agree_on_the_smaller(void **state)
{
        static const struct {
                uint16_t ours, theirs, agreed;
                uint32_t our_features, their_features, common;
        } cases[] = {{0, 0, 0, 0, 0, 0}, {0, 9, 0, 0, UINT32_MAX, 0},
                     {5, 3, 3, 7, 6, 6}, {3, 5, 3, 6, 7, 6},
                     {4, 4, 4, 1, 2, 0}, {UINT16_MAX, 0, 0, UINT32_MAX, UINT32_MAX, UINT32_MAX}};

        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct takt_frame_head ours = {.minor = cases[i].ours, .features = cases[i].our_features};
                struct takt_frame_head theirs = {.minor = cases[i].theirs,
                                                 .features = cases[i].their_features};

                takt_frame_agree(&ours, &theirs);
                assert_int_equal(ours.minor, cases[i].agreed);
                assert_int_equal(ours.features, cases[i].common);
                assert_int_equal(theirs.minor, cases[i].theirs);
        }
}

// Each kind by itself: what is cut off, too long without saying so, or of another kind.
static void frames_of_all_kinds_are_checked(void **state)
{
        static const enum takt_frame_type kinds[] = {TAKT_FRAME_JOIN, TAKT_FRAME_WELCOME, TAKT_FRAME_REFUSED};
        union takt_frame a, b;

        (void)state;
        for (size_t i = 0; i < 3; i++) {
                size_t size = takt_frame_init(&a, kinds[i]);

                assert_int_equal(takt_frame_parse(&a, size, &b), 0);
                assert_memory_equal(&a, &b, size);
                assert_int_equal(takt_frame_parse(&a, size - 1, &b), -EBADMSG);
                a.head.size--; // it says so, but is too short for its kind
                assert_int_equal(takt_frame_parse(&a, size - 1, &b), -EBADMSG);
                a.head.size = (uint16_t)(size + 1);
                assert_int_equal(takt_frame_parse(&a, size, &b), -EBADMSG);
        }
        takt_frame_init(&a, TAKT_FRAME_JOIN);
        for (unsigned type = 4; type < 70000; type += 997) {
                a.head.type = (uint16_t)type;
                assert_true((uint16_t)type < 4 || takt_frame_parse(&a, sizeof a.join, &b) == -EBADMSG);
        }
}

static void another_major_version_is_known_before_all_else(void **state)
{
        union takt_frame a = {0}, b;

        (void)state;
        for (unsigned major = 0; major < 4; major++) { // whatever its frames look like
                a.head = (struct takt_frame_head){TAKT_WIRE_MAGIC, 77, sizeof a.head, (uint16_t)major, 3, 0};
                assert_int_equal(takt_frame_parse(&a, sizeof a.head, &b),
                                 major == TAKT_WIRE_MAJOR ? -EBADMSG : -EPROTONOSUPPORT);
        }
}

static void lanes_are_read_as_they_are_and_never_beyond(void **state)
{
        static struct takt_page_client page;
        struct takt_lane_view view;

        (void)state;
        page.lane[15] = (struct takt_lane_client){.activity = takt_activity_idle(90),
                                                  .busy_ns = UINT64_MAX,
                                                  .memory_used = 7,
                                                  .steps = UINT32_MAX,
                                                  .want = 3};
        takt_page_read_lane(&page, 15, 100, &view);
        assert_true(view.busy_ns == UINT64_MAX && view.steps == UINT32_MAX);
        assert_int_equal(view.memory_used, 7);
        assert_int_equal(view.want, 3);
        takt_page_read_lane(&page, 31, 100, &view); // past the end is the same as 15
        assert_int_equal(view.memory_used, 7);
        assert_true(takt_activity_busy(90) == 91 && takt_activity_idle(91) == 90 &&
                    takt_activity_busy(91) == 91);
        for (uint32_t word = 0; word < 16; word++)
                assert_int_equal(TAKT_GATE_STATE(word), word % 4);
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

static void ids_are_compared_as_they_are_written(void **state)
{
        struct takt_request_line a, b;
        char line[TAKT_REQUEST_LINE_MAX + 1];

        (void)state;
        assert_int_equal(parse("{\"event\":\"arrived\",\"id\":\"a\\\"b\"}", &a), 0);
        assert_int_equal(parse("{\"id\":\"a\\\"b\",\"event\":\"finished\"}", &b), 0);
        assert_true(a.id == b.id);
        assert_int_equal(b.event, TAKT_REQUEST_FINISHED);
        assert_int_equal(parse("{\"event\":\"arrived\",\"id\":\"a\\\\b\"}", &b), 0);
        assert_true(a.id != b.id);
        assert_int_equal(parse("{\"event\":\"arrived\",\"id\":\"\"}", &b), 0);
        assert_true(b.id == UINT64_C(0xcbf29ce484222325)); // FNV-1a of nothing
        assert_int_equal(parse("{\"event\":\"arrived\",\"id\":\"a\"}", &b), 0);
        assert_true(b.id == UINT64_C(0xaf63dc4c8601ec8c)); // and of "a", as published
        for (size_t cut = snprintf(line, sizeof line, "{\"event\":\"arrived\",\"id\":\"42\",\"n\":1.5}");
             cut-- > 0;)
                assert_int_equal(takt_request_parse(line, cut, &b), -EBADMSG);
}

static void deadlines_are_decimal_milliseconds(void **state)
{
        static const struct {
                const char *text;
                uint64_t ns;
        } good[] = {{"0", 0},
                    {"1", 1000000},
                    {"0.000001", 1},
                    {"0.0000019", 1},
                    {"12.5", 12500000},
                    {"3.", 3000000},
                    {"1000000000", UINT64_C(1000000000000000)},
                    {"007", 7000000}};
        static const char *const bad[] = {"1e3", "+1", "-0",  ".5",    "1000000001",          "0x1",
                                          "1 2", "",   "NaN", "1.5.5", "18446744073709551617"};
        struct takt_request_line line;
        char text[128];

        (void)state;
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                snprintf(text, sizeof text, "{\"event\":\"arrived\",\"id\":\"1\",\"deadline_ms\":%s}",
                         good[i].text);
                assert_int_equal(parse(text, &line), 0);
                assert_true(line.deadline_ns == good[i].ns);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                snprintf(text, sizeof text, "{\"event\":\"arrived\",\"id\":\"1\",\"deadline_ms\":%s}",
                         bad[i]);
                if (parse(text, &line) != -EBADMSG)
                        fail_msg("accepted: %s", bad[i]);
        }
}

// A later version may have any.
static void members_that_are_not_known_are_passed_over(void **state)
{
        static const char *const good[] = {"0",   "-1",    "1732650000000",        "-0.25",
                                           "1e3", "2E-10", "18446744073709551617", "\"high\""};
        static const char *const bad[] = {"", "-", "+1", "e3", "1e", "1e+", "--1", "1.5.5", "0x1", "NaN"};
        struct takt_request_line line;
        char text[128];

        (void)state;
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                snprintf(text, sizeof text, "{\"event\":\"arrived\",\"x\":%s,\"id\":\"1\"}", good[i]);
                if (parse(text, &line) != 0 || line.deadline_ns)
                        fail_msg("refused: %s", good[i]);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                snprintf(text, sizeof text, "{\"event\":\"arrived\",\"x\":%s,\"id\":\"1\"}", bad[i]);
                if (parse(text, &line) != -EBADMSG)
                        fail_msg("accepted: %s", bad[i]);
        }
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
                cmocka_unit_test(pages_have_no_other_fields),
                cmocka_unit_test(heads_have_their_layout),
                cmocka_unit_test(ends_agree_on_the_smaller),
                cmocka_unit_test(frames_of_all_kinds_are_checked),
                cmocka_unit_test(another_major_version_is_known_before_all_else),
                cmocka_unit_test(lanes_are_read_as_they_are_and_never_beyond),
                cmocka_unit_test(ids_are_compared_as_they_are_written),
                cmocka_unit_test(deadlines_are_decimal_milliseconds),
                cmocka_unit_test(members_that_are_not_known_are_passed_over),
                cmocka_unit_test(bad_request_lines_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
