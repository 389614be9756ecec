// Whatever is written as a configuration, as a promise or as a cgroup: refused with words, or within all
// limits.
#include <errno.h>
#include <string.h>
#include "bytes.h"
#include "kube/cgroup.h"
#include "kube/config.h"
#include "kube/promise.h"

static void check(const struct config *c)
{
        MUST(c->n_resources >= 1 && c->n_resources <= KUBE_RESOURCES_MAX);
        for (uint32_t i = 0; i < c->n_resources; i++) {
                const struct config_resource *r = &c->resource[i];

                MUST(strnlen(r->name, sizeof r->name) < sizeof r->name && strchr(r->name, '/'));
                MUST(r->replicas >= 1 && r->replicas <= KUBE_REPLICAS_MAX);
                MUST(r->devices.n_listed <= KUBE_DEVICES_MAX);
                MUST(r->contract.share_ppm <= CORE_PPM && r->contract.class <= CORE_CLASS_IDLE);
                MUST(r->contract.class != CORE_CLASS_DEADLINE || r->contract.share_ppm);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct config config;
        static struct slots slots;
        char why[128] = "", pod[CGROUP_POD_SIZE], text[64];
        struct core_contract contract = {0};
        enum cgroup_qos qos;
        const char *value;
        int error = config_parse((const char *)data, size, &config, why, sizeof why);

        MUST(!error == !why[0]);
        if (!error) {
                check(&config);
                slots.n_devices = 2;
                strcpy(slots.device[0].uuid, "GPU-a");
                slots.device[0].memory_bytes = slots.device[1].memory_bytes = UINT64_C(40) << 30;
                if (config_apply(&config, &slots, why, sizeof why) == 0)
                        for (uint32_t r = 0; r < slots.n_resources; r++)
                                MUST(slots.resource[r].devices < 4);
        }
        if (cgroup_parse((const char *)data, size, pod, &qos) == 0)
                MUST(strlen(pod) == 36 || strlen(pod) == 32);
        memcpy(text, data, size < 63 ? size : 63);
        text[size < 63 ? size : 63] = 0;
        value = strchr(text, '=');
        if (!value)
                return 0;
        text[value - text] = 0;
        error = promise_set(&contract, text, value + 1, why, sizeof why);
        MUST(error == 0 || error == -ENOENT || error == -EINVAL);
        MUST(contract.share_ppm <= CORE_PPM && contract.peak_ppm <= CORE_PPM && contract.weight <= 10000);
        return 0;
}
