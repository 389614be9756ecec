// The daemon's counts as Prometheus reads them, as text.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kube/exposition.h"

#define GPU "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"

static struct exposition e;
static struct takt_histogram waits;
static char *text;
static size_t size;

static struct door_tenant_account *add(const char *name, int by_door)
{
        struct door_tenant_account *t = &e.now.tenant[e.now.n_tenants];

        *t = (struct door_tenant_account){
                .name = name, .number = e.now.n_tenants++, .by_door = (uint8_t)by_door, .waits = &waits};
        return t;
}

static int begin(void **state)
{
        (void)state;
        memset(&e, 0, sizeof e);
        takt_histogram_init(&waits);
        e.now.version = "1.2";
        e.now.n_devices = 1;
        e.device[0] = (struct door_device){GPU, "A \"quoted\" GPU", UINT64_C(40) << 30};
        return 0;
}

static int end(void **state)
{
        (void)state;
        free(text);
        text = NULL;
        return 0;
}

static void make(void)
{
        free(text);
        text = exposition_text(&e, &size);
        assert_non_null(text);
        assert_int_equal(strlen(text), size);
}

static void says(const char *line)
{
        char whole[2048];

        snprintf(whole, sizeof whole, "\n%s\n", line);
        if (!strstr(text, whole))
                fail_msg("not there: %s\n%s", line, text);
}

static void a_pods_account_has_its_pods_labels(void **state)
{
        struct door_tenant_account *t = add("team-a/chat-0/main", 1);

        (void)state;
        t->busy_ns = 1500000001;
        t->wait_ns = 750000000;
        t->slices = 7;
        t->in_time = 3;
        t->late = 1;
        t->share_ppm = 300000;
        t->memory_bytes = 123;
        make();
#define POD                                                                                                  \
        "{namespace=\"team-a\",pod=\"chat-0\",container=\"main\",tenant=\"team-a/chat-0/main\",seat=\"0\","  \
        "gpu=\"" GPU "\""
        says("# TYPE takt_gpu_seconds_total counter");
        says("takt_gpu_seconds_total" POD "} 1.500000001");
        says("takt_wait_seconds_total" POD "} 0.750000000");
        says("takt_slices_total" POD "} 7");
        says("takt_requests_total" POD ",in_time=\"true\"} 3");
        says("takt_requests_total" POD ",in_time=\"false\"} 1");
        says("takt_degradation_factor" POD "} 1.5000");
        says("takt_share_ratio" POD "} 0.300000");
        says("takt_memory_used_bytes" POD "} 123");
        assert_null(strstr(text, "takt_memory_quota_bytes{")); // it has none
        t->quota_bytes = 456;
        make();
        says("takt_memory_quota_bytes" POD "} 456");
}

static void a_name_of_three_parts_is_a_pods_only_by_the_door(void **state)
{
        (void)state;
        add("a/b/c", 0);
        add("slot " GPU "-3", 1);
        make();
        says("takt_slices_total{namespace=\"\",pod=\"\",container=\"\",tenant=\"a/b/c\",seat=\"0\",gpu=\"" GPU
             "\"} 0");
        says("takt_slices_total{namespace=\"\",pod=\"\",container=\"\",tenant=\"slot " GPU
             "-3\",seat=\"1\",gpu=\"" GPU "\"} 0");
        assert_null(strstr(text, "takt_degradation_factor{")); // nothing to divide by
}

static void what_a_label_may_not_hold_is_escaped(void **state)
{
        (void)state;
        add("a\"b\\c\nd", 0);
        add("caf\xc3\xa9 \xf0\x9f\x98\x80", 0);
        add("\xff\xc0\x80\xed\xa0\x80\xe2\x82", 0); // no UTF-8: one such byte costs the whole scrape
        make();
        says("takt_processes{namespace=\"\",pod=\"\",container=\"\",tenant=\"a\\\"b\\\\c\\nd\",seat=\"0\","
             "gpu=\"" GPU "\"} 0");
        says("takt_processes{namespace=\"\",pod=\"\",container=\"\",tenant=\"caf\xc3\xa9 "
             "\xf0\x9f\x98\x80\",seat=\"1\",gpu=\"" GPU "\"} 0");
        says("takt_processes{namespace=\"\",pod=\"\",container=\"\",tenant=\"????????\",seat=\"2\",gpu=\"" GPU
             "\"} 0");
        says("takt_device_info{gpu=\"" GPU "\",model=\"A \\\"quoted\\\" GPU\"} 1");
}

static void the_longest_name_has_room(void **state)
{
        char name[384];

        (void)state;
        memset(name, '"', sizeof name - 1);
        name[63] = name[63 + 1 + 253] = '/';
        name[sizeof name - 1] = 0;
        add(name, 1);
        make();
        assert_non_null(strstr(text, "pod=\"\\\""));
}

static void waits_are_a_cumulative_histogram(void **state)
{
        (void)state;
        takt_histogram_add(&waits, 5 * TAKT_US);
        takt_histogram_add(&waits, 30 * TAKT_MS);
        takt_histogram_add(&waits, 30 * TAKT_MS);
        takt_histogram_add(&waits, 20 * TAKT_S);
        add("t", 0);
        make();
#define WAIT(suffix)                                                                                         \
        "takt_lease_wait_seconds_" suffix                                                                    \
        "{namespace=\"\",pod=\"\",container=\"\",tenant=\"t\",seat=\"0\",gpu=\"" GPU "\""
        says("# TYPE takt_lease_wait_seconds histogram");
        says(WAIT("bucket") ",le=\"1e-05\"} 1");
        says(WAIT("bucket") ",le=\"0.02\"} 1");
        says(WAIT("bucket") ",le=\"0.05\"} 3");
        says(WAIT("bucket") ",le=\"10\"} 3");
        says(WAIT("bucket") ",le=\"+Inf\"} 4");
        says(WAIT("sum") "} 20.060005000");
        says(WAIT("count") "} 4");
}

static void devices_and_slots(void **state)
{
        (void)state;
        e.now.n_devices = 2;
        e.device[1] = (struct door_device){"GPU-1", "B", 5};
        e.lost[1] = 1;
        e.now.device[0] =
                (struct door_device_account){.held_ns = TAKT_S, .switches = 3, .promised_ppm = 700000};
        e.n_resources = 1;
        e.resource[0] = (struct exposition_resource){.name = "takt.dev/gpu", .slots = {4}, .held = {2}};
        make();
        says("takt_build_info{version=\"1.2\"} 1");
        says("takt_device_healthy{gpu=\"" GPU "\"} 1");
        says("takt_device_healthy{gpu=\"GPU-1\"} 0");
        says("takt_device_memory_bytes{gpu=\"GPU-1\"} 5");
        says("takt_device_held_seconds_total{gpu=\"" GPU "\"} 1.000000000");
        says("takt_device_switches_total{gpu=\"" GPU "\"} 3");
        says("takt_device_promised_ratio{gpu=\"" GPU "\"} 0.700000");
        says("takt_slots{resource=\"takt.dev/gpu\",gpu=\"" GPU "\"} 4");
        says("takt_slots_held{resource=\"takt.dev/gpu\",gpu=\"" GPU "\"} 2");
        assert_null(strstr(text, "takt_slots{resource=\"takt.dev/gpu\",gpu=\"GPU-1\"}"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_pods_account_has_its_pods_labels, begin, end),
                cmocka_unit_test_setup_teardown(a_name_of_three_parts_is_a_pods_only_by_the_door, begin, end),
                cmocka_unit_test_setup_teardown(what_a_label_may_not_hold_is_escaped, begin, end),
                cmocka_unit_test_setup_teardown(the_longest_name_has_room, begin, end),
                cmocka_unit_test_setup_teardown(waits_are_a_cumulative_histogram, begin, end),
                cmocka_unit_test_setup_teardown(devices_and_slots, begin, end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
