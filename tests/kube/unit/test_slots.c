// Slots on a daemon of the test's own: who gets what, what is the record of it, and when it ends.
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "kube/podresources.pb-c.h"
#include "kube/pods.h"

#define N_TENANTS 32

// The daemon: admits what its share of each GPU allows.
static struct fake {
        uint32_t share[KUBE_DEVICES_MAX];
        struct {
                int used;
                uint32_t device, share, weight;
                uint64_t memory;
                char name[64], dir[112];
                uint32_t n_processes;
        } tenant[N_TENANTS];
        uint32_t room_ppm[2];
        uint64_t busy_ns[2], wait_ns[2];
} fake;

static int admit(struct node *node, const struct door_tenant *wish, char *why, size_t size)
{
        int i = 0;

        (void)node;
        while (fake.tenant[i].used)
                i++;
        if (fake.share[wish->device] + wish->contract->share_ppm > CORE_PPM)
                return snprintf(why, size, "full"), -EDQUOT;
        fake.share[wish->device] += wish->contract->share_ppm;
        memset(&fake.tenant[i], 0, sizeof fake.tenant[i]);
        fake.tenant[i].used = 1;
        fake.tenant[i].device = wish->device;
        fake.tenant[i].share = wish->contract->share_ppm;
        fake.tenant[i].weight = wish->contract->weight;
        fake.tenant[i].memory = wish->contract->memory_bytes;
        snprintf(fake.tenant[i].name, 64, "%s", wish->name);
        snprintf(fake.tenant[i].dir, 112, "%s", wish->dir);
        mkdir(wish->dir, 0755);
        return i;
}

static void drop(struct node *node, uint32_t tenant)
{
        (void)node;
        assert_true(fake.tenant[tenant].used);
        fake.tenant[tenant].used = 0;
        fake.share[fake.tenant[tenant].device] -= fake.tenant[tenant].share;
}

static uint32_t n_processes(const struct node *node, uint32_t tenant)
{
        (void)node;
        return fake.tenant[tenant].n_processes;
}

static void rename_tenant(struct node *node, uint32_t tenant, const char *name)
{
        (void)node;
        snprintf(fake.tenant[tenant].name, 64, "%s", name);
}

static int would_admit(const struct node *node, uint32_t device, const struct core_contract *contract)
{
        (void)node;
        return contract->share_ppm <= fake.room_ppm[device];
}

static void look(struct node *node, struct door_snapshot *ret)
{
        (void)node;
        for (uint32_t d = 0; d < 2; d++)
                ret->tenant[ret->n_tenants++] = (struct door_tenant_account){
                        .device = d, .busy_ns = fake.busy_ns[d], .wait_ns = fake.wait_ns[d]};
}

static const struct door_services services = {.admit = admit,
                                              .would_admit = would_admit,
                                              .drop = drop,
                                              .n_processes = n_processes,
                                              .rename = rename_tenant,
                                              .look = look};
static const struct host host = {NULL, &services};
static struct slots slots;
static char dir[64], why[256];

static int n_tenants(void)
{
        int n = 0;

        for (int i = 0; i < N_TENANTS; i++)
                n += fake.tenant[i].used;
        return n;
}

// Two GPUs, four slots of 30 % on each.
static void begin(void)
{
        memset(&slots, 0, sizeof slots);
        memset(&fake, 0, sizeof fake);
        slots.n_devices = 2;
        strcpy(slots.device[0].uuid, "GPU-a");
        strcpy(slots.device[1].uuid, "GPU-b");
        slots.n_resources = 1;
        slots.resource[0] = (struct resource){.name = "takt.dev/gpu", .replicas = 4, .devices = 3};
        slots.resource[0].contract.share_ppm = 300000;
        slots.resource[0].contract.memory_bytes = 1000;
        assert_int_equal(slots_open(&slots, &host, dir), 0);
}

static int set_up(void **state)
{
        (void)state;
        strcpy(dir, "/tmp/takt-slots-XXXXXX");
        if (!mkdtemp(dir))
                return -1;
        begin();
        return 0;
}

static int tear_down(void **state)
{
        char path[96];

        (void)state;
        for (uint32_t i = 0; i < slots.n_slots; i++)
                rmdir(slots.slot[i].dir);
        snprintf(path, sizeof path, "%s/slots", dir);
        rmdir(path);
        return rmdir(dir);
}

static int take(uint32_t which)
{
        uint32_t slot;

        return slots_take(&slots, &which, 1, NULL, &slot, why, sizeof why);
}

static void ids_and_folders_are_the_same_in_the_next_life(void **state)
{
        static struct slots before;

        (void)state;
        assert_int_equal(slots.n_slots, 8);
        assert_string_equal(slots.slot[0].id, "GPU-a-0");
        assert_string_equal(slots.slot[7].id, "GPU-b-3");
        before = slots;
        begin();
        for (uint32_t i = 0; i < slots.n_slots; i++) {
                assert_string_equal(slots.slot[i].id, before.slot[i].id);
                assert_string_equal(slots.slot[i].dir, before.slot[i].dir);
                for (uint32_t k = 0; k < i; k++)
                        assert_string_not_equal(slots.slot[i].dir, slots.slot[k].dir);
        }
}

static void the_folder_is_the_record(void **state)
{
        (void)state;
        assert_int_equal(take(1), 0);
        assert_int_equal(take(5), 0);
        begin(); // the daemon was killed, and is there again
        assert_int_equal(n_tenants(), 2);
        assert_true(slots.slot[1].tenant >= 0 && slots.slot[5].tenant >= 0);
        slots_free(&slots, 1);
        assert_int_not_equal(access(slots.slot[1].dir, F_OK), 0);
        begin();
        assert_int_equal(n_tenants(), 1);
}

static void a_slot_given_away_again_has_a_new_holder(void **state)
{
        int first;

        (void)state;
        assert_int_equal(take(0), 0);
        strcpy(slots.slot[0].pod, "somebody");
        first = slots.slot[0].tenant;
        fake.tenant[first].weight = 12345;
        assert_int_equal(take(0), 0);
        assert_int_equal(n_tenants(), 1);
        assert_int_not_equal(fake.tenant[slots.slot[0].tenant].weight, 12345);
        assert_string_equal(slots.slot[0].pod, "");
        for (uint32_t i = 1; i < 3; i++)
                assert_int_equal(take(i), 0);
        assert_int_equal(take(3), -EDQUOT);
        assert_string_equal(why, "full");
        assert_int_equal(n_tenants(), 3);
        assert_int_equal(slots_hold(&slots, 0, why, sizeof why), 0);
        assert_int_equal(slots_hold(&slots, 3, why, sizeof why), -EDQUOT);
        assert_int_equal(slots_hold(&slots, 4, why, sizeof why), 0);
        assert_int_equal(n_tenants(), 4);
}

static void a_slot_is_its_first_pods(void **state)
{
        (void)state;
        take(0);
        assert_int_equal(slots_claim(&slots, 0, "fc4b7b33-2b0c-42d5-9244-93a11eca7e0c"), 1);
        assert_int_equal(slots_claim(&slots, 0, "fc4b7b33-2b0c-42d5-9244-93a11eca7e0c"), 0);
        assert_int_equal(slots_claim(&slots, 0, "fc4b7b33-2b0c-42d5-9244-93a11eca7e0d"), -EPERM);
        begin(); // the next daemon knows
        assert_int_equal(slots_claim(&slots, 0, "fc4b7b33-2b0c-42d5-9244-93a11eca7e0d"), -EPERM);
        assert_int_equal(slots_claim(&slots, 0, "fc4b7b33-2b0c-42d5-9244-93a11eca7e0c"), 0);
        take(0); // given to another
        begin();
        assert_int_equal(slots_claim(&slots, 0, "fc4b7b33-2b0c-42d5-9244-93a11eca7e0d"), 1);
        slots_free(&slots, 0);
}

static void slots_of_one_container_are_one_tenant(void **state)
{
        const uint32_t two[] = {1, 2}, apart[] = {3, 4};
        uint32_t slot;

        (void)state;
        assert_int_equal(slots_take(&slots, two, 2, NULL, &slot, why, sizeof why), 0);
        assert_int_equal(slot, 1);
        assert_int_equal(n_tenants(), 1);
        assert_int_equal(fake.tenant[slots.slot[1].tenant].share, 600000);
        assert_int_equal(fake.tenant[slots.slot[1].tenant].memory, 2000);
        assert_int_equal(fake.tenant[slots.slot[1].tenant].weight, 200);
        assert_int_equal(slots.slot[2].with, 1);
        assert_int_equal(slots_of_tenant(&slots, (uint32_t)slots.slot[1].tenant), 1);
        assert_int_equal(slots_take(&slots, apart, 2, NULL, &slot, why, sizeof why), -EINVAL);
        assert_int_equal(n_tenants(), 1);
        slots.resource[0].single = 1;
        assert_int_equal(slots_take(&slots, two, 2, NULL, &slot, why, sizeof why), -EINVAL);
        assert_string_equal(why,
                            "a container may ask for one takt.dev/gpu, not 2 (failRequestsGreaterThanOne)");
        slots_free(&slots, 1);
        assert_int_equal(slots.slot[2].with, -1);
}

// The next daemon finds them together; what one was given to somebody else since is not theirs any more.
static void slots_of_one_container_stay_one_tenant(void **state)
{
        const uint32_t two[] = {1, 2};
        uint32_t slot;

        (void)state;
        slots_take(&slots, two, 2, NULL, &slot, why, sizeof why);
        begin();
        assert_int_equal(n_tenants(), 1);
        assert_int_equal(fake.tenant[slots.slot[1].tenant].share, 600000);
        assert_int_equal(slots.slot[2].with, 1);
        take(2);
        begin();
        assert_int_equal(n_tenants(), 2);
        assert_int_equal(fake.tenant[slots.slot[1].tenant].share, 300000);
        assert_int_equal(slots.slot[2].with, -1);
        slots_free(&slots, 1);
        begin();
        assert_int_equal(n_tenants(), 1);
        slots_free(&slots, 2);
        // A link to what is not held, or is no slot's, is no link.
        symlink("nowhere", slots.slot[2].dir);
        symlink(strrchr(slots.slot[1].dir, '/') + 1, slots.slot[0].dir);
        begin();
        assert_int_equal(n_tenants(), 0);
        assert_int_equal(slots.slot[2].with, -1);
        assert_int_equal(slots.slot[0].with, -1);
        assert_int_equal(take(0), 0);
        assert_int_equal(take(2), 0);
        slots_free(&slots, 0), slots_free(&slots, 2);
}

static void the_emptier_gpu_is_preferred_and_one_for_all(void **state)
{
        const uint32_t all[] = {0, 1, 2, 3, 4, 5, 6, 7}, few[] = {2, 3, 4, 5, 6, 7}, must[] = {3};
        uint32_t chosen[8];

        (void)state;
        take(0);
        assert_int_equal(slots_prefer(&slots, all + 1, 7, NULL, 0, NULL, 1, chosen), 1);
        assert_int_equal(chosen[0], 4);
        assert_int_equal(slots_prefer(&slots, all + 1, 7, must, 1, NULL, 2, chosen), 2);
        assert_int_equal(chosen[0], 3);
        assert_int_equal(slots.slot[chosen[1]].device, 0);
        take(4), take(5);
        assert_int_equal(slots_prefer(&slots, few, 6, NULL, 0, NULL, 3, chosen),
                         3); // only the fuller one has three
        for (int i = 0; i < 3; i++)
                assert_int_equal(slots.slot[chosen[i]].device, 1);
        assert_int_equal(slots_prefer(&slots, few, 6, NULL, 0, NULL, 6, chosen), 6);
        assert_int_equal(slots_prefer(&slots, few, 6, NULL, 0, NULL, 8, chosen), 6);
        assert_int_equal(slots_prefer(&slots, NULL, 0, NULL, 0, NULL, 1, chosen), 0);
        slots.policy = SLOTS_PACKED;
        assert_int_equal(slots_prefer(&slots, all + 1, 7, NULL, 0, NULL, 1, chosen), 1);
        assert_int_equal(slots.slot[chosen[0]].device, 1);
}

// The emptier GPU is the fuller one by promise: who fits only on the other is sent there.
static void a_gpu_that_has_room_for_the_promise_is_preferred(void **state)
{
        const uint32_t all[] = {0, 1, 2, 3, 4, 5, 6, 7};
        const struct core_contract most = {.share_ppm = 600000};
        uint32_t chosen[2];

        (void)state;
        take(0), take(4), take(5);
        fake.room_ppm[0] = 100000;
        fake.room_ppm[1] = 800000;
        assert_int_equal(slots_prefer(&slots, all, 8, NULL, 0, &most, 1, chosen), 1);
        assert_int_equal(slots.slot[chosen[0]].device, 1);
        fake.room_ppm[0] = 350000; // enough for one of the resource's 30 %, not for two
        assert_int_equal(slots_prefer(&slots, all, 8, NULL, 0, NULL, 1, chosen), 1);
        assert_int_equal(slots.slot[chosen[0]].device, 0);
        assert_int_equal(slots_prefer(&slots, all, 8, NULL, 0, NULL, 2, chosen), 2);
        assert_int_equal(slots.slot[chosen[0]].device, 1);
        assert_int_equal(slots.slot[chosen[1]].device, 1);
}

static void the_gpu_whose_tenants_wait_least_is_preferred(void **state)
{
        const uint32_t all[] = {0, 1, 2, 3, 4, 5, 6, 7};
        uint32_t chosen[1];

        (void)state;
        slots.policy = SLOTS_LEAST_DEGRADED;
        take(0), take(4), take(5); // two on the other
        fake.busy_ns[0] = 100, fake.wait_ns[0] = 30;
        fake.busy_ns[1] = 200, fake.wait_ns[1] = 40;
        assert_int_equal(slots_prefer(&slots, all, 8, NULL, 0, NULL, 1, chosen), 1);
        assert_int_equal(slots.slot[chosen[0]].device, 1);
        fake.wait_ns[1] = 80;
        assert_int_equal(slots_prefer(&slots, all, 8, NULL, 0, NULL, 1, chosen), 1);
        assert_int_equal(slots.slot[chosen[0]].device, 0);
}

// What the kubelet lists: one pod with these ids.
static void list(char **ids, size_t n, const char *resource)
{
        V1__ContainerDevices devices = V1__CONTAINER_DEVICES__INIT, *all_devices[] = {&devices};
        V1__ContainerResources container = V1__CONTAINER_RESOURCES__INIT, *containers[] = {&container};
        V1__PodResources pod = V1__POD_RESOURCES__INIT, *pods[] = {&pod};
        V1__ListPodResourcesResponse message = V1__LIST_POD_RESOURCES_RESPONSE__INIT;
        uint8_t bytes[512];

        devices.resource_name = (char *)(uintptr_t)resource;
        devices.device_ids = ids;
        devices.n_device_ids = n;
        container.name = "main";
        container.devices = all_devices;
        container.n_devices = 1;
        pod.name = "chat";
        pod.namespace_ = "default";
        pod.containers = containers;
        pod.n_containers = 1;
        message.pod_resources = pods;
        message.n_pod_resources = 1;
        assert_int_equal(pods_read(&slots, bytes, v1__list_pod_resources_response__pack(&message, bytes)), 0);
}

static void who_was_listed_and_is_no_more_has_ended(void **state)
{
        char *ids[] = {slots.slot[0].id, slots.slot[1].id, "nonsense"};

        (void)state;
        take(0), take(1), take(2);
        list(ids, 3, "takt.dev/gpu");
        pods_reap(&slots, 1);
        assert_int_equal(n_tenants(), 3); // slot 2's pod is only just coming
        assert_string_equal(fake.tenant[slots.slot[0].tenant].name, "default/chat/main");
        fake.tenant[slots.slot[0].tenant].n_processes = 1;
        list(ids, 0, "takt.dev/gpu");
        pods_reap(&slots, 0);
        assert_int_equal(n_tenants(), 3); // once is not enough
        pods_reap(&slots, 0);
        assert_int_equal(n_tenants(), 2);
        assert_int_equal(slots.slot[1].tenant, -1);
        fake.tenant[slots.slot[0].tenant].n_processes = 0;
        pods_reap(&slots, 0);
        assert_int_equal(n_tenants(), 1);
        assert_true(slots.slot[2].tenant >= 0);
}

static void who_is_wanted_urgently_need_be_missed_once(void **state)
{
        char *ids[] = {slots.slot[0].id};

        (void)state;
        take(0);
        list(ids, 1, "takt.dev/gpu");
        list(ids, 1, "somebody.else/gpu");
        pods_reap(&slots, 1);
        assert_int_equal(n_tenants(), 0);
        assert_int_equal(pods_read(&slots, (const uint8_t *)"\xff\xff", 2), -EBADMSG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(ids_and_folders_are_the_same_in_the_next_life),
                TEST(the_folder_is_the_record),
                TEST(a_slot_given_away_again_has_a_new_holder),
                TEST(a_slot_is_its_first_pods),
                TEST(slots_of_one_container_are_one_tenant),
                TEST(slots_of_one_container_stay_one_tenant),
                TEST(the_emptier_gpu_is_preferred_and_one_for_all),
                TEST(a_gpu_that_has_room_for_the_promise_is_preferred),
                TEST(the_gpu_whose_tenants_wait_least_is_preferred),
                TEST(who_was_listed_and_is_no_more_has_ended),
                TEST(who_is_wanted_urgently_need_be_missed_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
