// What is offered, at an API server of ours: published, kept as it should be, and what a server of which the
// gate is off makes of it.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/time.h"
#include "fake_dra.h"
#include "kube/slices.h"

static struct asked {
        char verb[8], path[320];
        json_t *body;
        cluster_done *done;
        void *context;
} asked;
static json_t *kept; // the slice that the server has
static int drops;    // it drops what the gate is of
static int n_writes;

static int ask(void *self, const char *verb, const char *path, const json_t *body, cluster_done *done,
               void *context)
{
        (void)self;
        assert_null(asked.done);
        asked.body = json_deep_copy(body);
        asked.done = done;
        asked.context = context;
        snprintf(asked.verb, sizeof asked.verb, "%s", verb);
        snprintf(asked.path, sizeof asked.path, "%s", path);
        return 0;
}

static void forget(void *self, const void *context)
{
        (void)self, (void)context;
        asked.done = NULL;
}

static const struct cluster cluster = {NULL, ask, forget};
static struct slices slices;

static json_t *device_0(json_t *object)
{
        return json_array_get(json_object_get(json_object_get(object, "spec"), "devices"), 0);
}

static void keep(json_t *body)
{
        json_t *share;

        n_writes++;
        json_decref(kept);
        kept = json_deep_copy(body);
        json_object_set_new(json_object_get(kept, "metadata"), "resourceVersion", json_string("7"));
        if (!drops)
                return;
        share = json_object_get(json_object_get(device_0(kept), "capacity"), "takt.dev/share");
        json_object_del(device_0(kept), "allowMultipleAllocations");
        json_object_del(share, "requestPolicy");
}

// Answers what was asked, as an API server would.
static void serve(void)
{
        struct asked now = asked;
        int status = 200;
        json_t *answer = NULL, *own = NULL;

        asked = (struct asked){0};
        if (!strcmp(now.path, "/api/v1/nodes/n1")) {
                answer = own = json_pack("{s:{s:s}}", "metadata", "uid", UID_B);
        } else if (!strcmp(now.verb, "GET")) {
                assert_string_equal(now.path, "/apis/resource.k8s.io/v1/resourceslices/n1-gpu.takt.dev");
                answer = kept;
                status = kept ? 200 : 404;
        } else {
                assert_int_equal(!strcmp(now.verb, "PUT"), kept != NULL);
                if (kept)
                        assert_string_equal(
                                json_string_value(json_object_get(json_object_get(now.body, "metadata"),
                                                                  "resourceVersion")),
                                "7");
                keep(now.body);
                answer = kept;
                status = strcmp(now.verb, "PUT") ? 201 : 200;
        }
        now.done(now.context, status, answer, "not found");
        json_decref(now.body);
        json_decref(own);
}

static void settle(void)
{
        slices_tick(&slices, TAKT_NEVER - 1);
        while (asked.done)
                serve();
}

static int set_up(void **state)
{
        (void)state;
        json_decref(kept);
        kept = NULL;
        drops = n_writes = 0;
        asked = (struct asked){0};
        slices_open(&slices, &fake_pool, &cluster);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        slices_close(&slices);
        json_decref(kept);
        kept = NULL;
        return 0;
}

static json_int_t generation(void)
{
        json_t *pool = json_object_get(json_object_get(kept, "spec"), "pool");

        return json_integer_value(json_object_get(pool, "generation"));
}

static void nothing_before_a_registration(void **state)
{
        (void)state;
        slices_news(&slices);
        assert_int_equal(slices_due(&slices), TAKT_NEVER);
        settle();
        assert_null(kept);
}

static void published_once_and_again_when_it_is_gone(void **state)
{
        const char *value, *step, *memory, *owner;
        int many;

        (void)state;
        slices_publish(&slices);
        settle();
        assert_int_equal(n_writes, 1);
        assert_int_equal(json_unpack(device_0(kept), "{s:b,s:{s:{s:s,s:{s:{s:s}}},s:{s:s}}}",
                                     "allowMultipleAllocations", &many, "capacity", "takt.dev/share", "value",
                                     &value, "requestPolicy", "validRange", "step", &step, "memory", "value",
                                     &memory),
                         0);
        assert_true(many);
        assert_string_equal(value, "100");
        assert_string_equal(step, "1");
        assert_string_equal(memory, "40Gi");
        assert_int_equal(json_unpack(kept, "{s:{s:[{s:s}]}}", "metadata", "ownerReferences", "uid", &owner),
                         0);
        assert_string_equal(owner, UID_B);
        assert_int_equal(generation(), 1);
        slices_close(&slices);
        slices_open(&slices, &fake_pool, &cluster); // the next daemon
        slices_publish(&slices);                    // the kubelet was restarted, and has not deleted it yet
        settle();
        assert_int_equal(n_writes, 1);
        json_decref(kept);
        kept = NULL;
        slices_news(&slices);
        settle();
        assert_int_equal(n_writes, 2);
        assert_int_equal(generation(), 2);
}

static void a_lost_gpu_is_tainted_in_a_new_generation(void **state)
{
        json_t *taints;

        (void)state;
        slices_publish(&slices);
        settle();
        slices_health(&slices, 1);
        settle();
        taints = json_object_get(device_0(kept), "taints");
        assert_int_equal(json_array_size(taints), 1);
        assert_int_equal(generation(), 2);
        json_object_set_new(json_array_get(taints, 0), "timeAdded", json_string("now")); // as the server does
        slices_news(&slices);
        settle();
        assert_int_equal(generation(), 2);
        slices_health(&slices, 0);
        settle();
        assert_null(json_object_get(device_0(kept), "taints"));
        assert_int_equal(generation(), 3);
}

static void somebody_elses_change_is_undone(void **state)
{
        (void)state;
        slices_publish(&slices);
        settle();
        json_object_del(device_0(kept), "attributes");
        slices_news(&slices);
        settle();
        assert_non_null(json_object_get(device_0(kept), "attributes"));
        assert_int_equal(generation(), 2);
}

// Else it would be written for ever.
static void what_the_server_drops_is_written_once(void **state)
{
        (void)state;
        drops = 1;
        slices_publish(&slices);
        settle();
        assert_int_equal(n_writes, 1);
        slices_news(&slices);
        settle();
        assert_int_equal(n_writes, 1);
        slices_health(&slices, 2);
        settle();
        assert_int_equal(n_writes, 2);
}

static void failures_are_tried_again_ever_later(void **state)
{
        uint64_t before;

        (void)state;
        slices_publish(&slices);
        slices_tick(&slices, TAKT_NEVER - 1);
        for (int i = 0; i < 12; i++) {
                cluster_done *done = asked.done;

                assert_non_null(done);
                json_decref(asked.body);
                asked = (struct asked){0};
                before = takt_clock_now();
                done(&slices, i % 2 ? 500 : 0, NULL, "away");
                assert_true(slices_due(&slices) >= before + KUBE_RETRY_MIN_NS);
                assert_true(slices_due(&slices) <= takt_clock_now() + KUBE_RETRY_MAX_NS);
                slices_tick(&slices, TAKT_NEVER - 1);
        }
        assert_true(slices.wait_ns == KUBE_RETRY_MAX_NS);
        while (asked.done)
                serve();
        assert_int_equal(n_writes, 1);
        assert_int_equal(slices.wait_ns, KUBE_RETRY_MIN_NS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(nothing_before_a_registration),
                TEST(published_once_and_again_when_it_is_gone),
                TEST(a_lost_gpu_is_tainted_in_a_new_generation),
                TEST(somebody_elses_change_is_undone),
                TEST(what_the_server_drops_is_written_once),
                TEST(failures_are_tried_again_ever_later),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
