// Whatever a caller sends to the plugin's methods: each call ends with a status, and the slots stay what they
// are.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/time.h"
#include "bytes.h"
#include "call.h"
#include "kube/plugin.h"
#include "kube/pods.h"

static int n_tenants;

static int admit(struct node *node, const struct door_tenant *wish, char *why, size_t size)
{
        (void)node, (void)size;
        MUST(wish->device < 2);
        why[0] = 0;
        return n_tenants < 4 ? n_tenants++ : -EDQUOT;
}

static void drop(struct node *node, uint32_t tenant)
{
        (void)node, (void)tenant;
        MUST(n_tenants-- > 0);
}

static uint32_t n_processes(const struct node *node, uint32_t tenant)
{
        (void)node, (void)tenant;
        return 0;
}

static void rename_tenant(struct node *node, uint32_t tenant, const char *name)
{
        (void)node, (void)tenant;
        MUST(strlen(name) < 64);
}

static int would_admit(const struct node *node, uint32_t device, const struct core_contract *contract)
{
        (void)node, (void)device, (void)contract;
        return 1;
}

static const struct door_services services = {.admit = admit,
                                              .would_admit = would_admit,
                                              .drop = drop,
                                              .n_processes = n_processes,
                                              .rename = rename_tenant};
static const struct host host = {NULL, &services};
static struct slots slots;

static void begin(void)
{
        memset(&slots, 0, sizeof slots);
        n_tenants = n_ends = 0;
        slots.n_devices = 2;
        strcpy(slots.device[0].uuid, "G0");
        strcpy(slots.device[1].uuid, "G1");
        slots.n_resources = 1;
        slots.resource[0] = (struct resource){.name = "a/b", .replicas = 3, .devices = 3};
        MUST(slots_open(&slots, &host, "build-fuzz/plugin") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const methods[] = {"Allocate", "PreStartContainer", "GetPreferredAllocation",
                                              "GetDevicePluginOptions", "Nothing"};
        static const struct rpc_answer answer = {on_message, on_end};
        static const struct injection injection = {.lib = "/lib"};
        struct plugin plugin = {.slots = &slots, .injection = &injection};
        struct rpc *server = rpc_server(&plugin_service, &plugin), *client = rpc_client();
        char method[64];
        int n = 0, held = 0;

        begin();
        while (size > 1) {
                size_t part = data[1] < size - 2 ? data[1] : size - 2;

                snprintf(method, sizeof method, "/v1beta1.DevicePlugin/%s", methods[data[0] % 5]);
                MUST(rpc_ask(client, method, data + 2, part, 0, TAKT_NEVER, &answer, NULL, NULL) == 0);
                n++;
                for (int i = 0; i < 4; i++)
                        carry(client, server), carry(server, client);
                MUST(n_ends == n);
                if (data[0] > 200 && pods_read(&slots, data + 2, part) == 0)
                        pods_reap(&slots, 1);
                data += 2 + part;
                size -= 2 + part;
        }
        for (uint32_t i = 0; i < slots.n_slots; i++) {
                held += slots.slot[i].tenant >= 0;
                MUST(slots.slot[i].with < 0 || slots.slot[slots.slot[i].with].tenant >= 0);
        }
        MUST(held == n_tenants);
        for (uint32_t i = 0; i < slots.n_slots; i++)
                slots_free(&slots, i);
        rpc_free(client);
        rpc_free(server);
        return 0;
}
