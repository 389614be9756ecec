// What tests of the DRA driver share: a daemon that admits what its share allows, and claims as text.
#pragma once
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "kube/dra.h"

#define UID_A "fc4b7b33-2b0c-42d5-9244-93a11eca7e0c"
#define UID_B "0a4b7b33-2b0c-42d5-9244-93a11eca7e0d"
#define POD_A "c0e44f7a-5ca3-41d6-a3d3-cd4f832b2fe2"
#define POD_B "d1e44f7a-5ca3-41d6-a3d3-cd4f832b2fe3"
#define N_TENANTS 16

static struct fake {
        uint32_t share[2];
        struct {
                int used;
                uint32_t device;
                struct core_contract contract;
                char name[384], dir[112];
        } tenant[N_TENANTS];
} fake;

static int fake_admit(struct node *node, const struct door_tenant *wish, char *why, size_t size)
{
        int i = 0;

        (void)node;
        while (fake.tenant[i].used)
                i++;
        if (fake.share[wish->device] + wish->contract->share_ppm > CORE_PPM)
                return snprintf(why, size, "the promise of another would break (20 %% too much)"), -EDQUOT;
        fake.share[wish->device] += wish->contract->share_ppm;
        fake.tenant[i].used = 1;
        fake.tenant[i].device = wish->device;
        fake.tenant[i].contract = *wish->contract;
        snprintf(fake.tenant[i].name, 384, "%s", wish->name);
        snprintf(fake.tenant[i].dir, 112, "%s", wish->dir);
        mkdir(wish->dir, 0755);
        return i;
}

static void fake_drop(struct node *node, uint32_t tenant)
{
        (void)node;
        fake.tenant[tenant].used = 0;
        fake.share[fake.tenant[tenant].device] -= fake.tenant[tenant].contract.share_ppm;
}

static inline int fake_n_tenants(void)
{
        int n = 0;

        for (int i = 0; i < N_TENANTS; i++)
                n += fake.tenant[i].used;
        return n;
}

static const struct door_services fake_services = {.admit = fake_admit, .drop = fake_drop};
static const struct host fake_host = {NULL, &fake_services};

static const struct claim_pool fake_pool = {
        .name = "n1",
        .devices = 3,
        .n_devices = 2,
        .device = {{.uuid = "GPU-Aa", .name = "A100", .memory_bytes = UINT64_C(40) << 30},
                   {.uuid = "GPU-Bb", .name = "A100", .memory_bytes = UINT64_C(40) << 30}}};

// A result of an allocation, and a whole claim of some, with `config` (or "") and who it is reserved for.
#define RESULT_OF(driver, request, device, capacity)                                                         \
        "{\"driver\":\"" driver "\",\"request\":\"" request "\",\"pool\":\"n1\",\"device\":\"" device        \
        "\",\"shareID\":\"a281f970-1fa5-4dc3-a127-4451790225a2\",\"consumedCapacity\":{" capacity "}}"
#define RESULT(request, device, share, memory)                                                               \
        RESULT_OF("gpu.takt.dev", request, device,                                                           \
                  "\"takt.dev/share\":\"" share "\",\"memory\":\"" memory "\"")
#define POD(name, uid) "{\"resource\":\"pods\",\"name\":\"" name "\",\"uid\":\"" uid "\"}"
#define CLAIM(uid, results, config, pods)                                                                    \
        "{\"metadata\":{\"namespace\":\"default\",\"name\":\"a\",\"uid\":\"" uid                             \
        "\"},\"status\":{\"allocation\":{\"devices\":{\"results\":[" results "],\"config\":[" config         \
        "]}},\"reservedFor\":[" pods "]}}"
#define CONFIG(source, parameters)                                                                           \
        "{\"source\":\"" source "\",\"opaque\":{\"driver\":\"gpu.takt.dev\",\"parameters\":{"                \
        "\"apiVersion\":\"gpu.takt.dev/v1\",\"kind\":\"Promise\"" parameters "}}}"
#define FORTY CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "8Gi"), "", POD("chat", POD_A))
