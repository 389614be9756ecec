#include "kube/slices.h"
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "kube/quantity.h"

#define COLLECTION "/apis/resource.k8s.io/v1/resourceslices"
#define MEBI (UINT64_C(1) << 20)

static json_t *text_attribute(const char *text)
{
        return json_pack("{s:s}", "string", text);
}

static json_t *attributes(const struct door_device *gpu)
{
        json_t *all = json_object();

        json_object_set_new(all, "uuid", text_attribute(gpu->uuid));
        if (gpu->name[0])
                json_object_set_new(all, "model", text_attribute(gpu->name));
        return all;
}

// A share is a percentage of the GPU's time. Who asks for nothing gets a tenth of either.
static json_t *capacity(const struct door_device *gpu)
{
        uint64_t memory = gpu->memory_bytes / MEBI * MEBI;
        char bytes[24], tenth[24];

        quantity_print(bytes, memory);
        quantity_print(tenth, memory / 10 / MEBI * MEBI);
        return json_pack("{s:{s:s,s:{s:s,s:{s:s,s:s,s:s}}},s:{s:s,s:{s:s,s:{s:s,s:s}}}}", CLAIM_SHARE,
                         "value", "100", "requestPolicy", "default", "10", "validRange", "min", "1", "max",
                         "100", "step", "1", "memory", "value", bytes, "requestPolicy", "default", tenth,
                         "validRange", "min", "1Mi", "step", "1Mi");
}

static json_t *device(const struct door_device *gpu, int is_lost)
{
        char name[CLAIM_DEVICE_SIZE];
        json_t *one;

        claim_device_name(gpu, name);
        one = json_pack("{s:s,s:b,s:o,s:o}", "name", name, "allowMultipleAllocations", 1, "attributes",
                        attributes(gpu), "capacity", capacity(gpu));
        if (is_lost)
                json_object_set_new(
                        one, "taints",
                        json_pack("[{s:s,s:s}]", "key", CLAIM_DRIVER "/lost", "effect", "NoSchedule"));
        return one;
}

// Without the pool's generation, which follows from what is there.
static json_t *specification(const struct slices *slices)
{
        const struct claim_pool *pool = slices->pool;
        json_t *devices = json_array();

        for (uint32_t d = 0; d < pool->n_devices; d++)
                if (pool->devices >> d & 1)
                        json_array_append_new(devices, device(&pool->device[d], slices->lost >> d & 1));
        return json_pack("{s:s,s:s,s:{s:s,s:i},s:o}", "driver", CLAIM_DRIVER, "nodeName", pool->name, "pool",
                         "name", pool->name, "resourceSliceCount", 1, "devices", devices);
}

// The same of the server's object, without what it adds by itself.
static json_t *specification_of(const json_t *object)
{
        json_t *spec = json_deep_copy(json_object_get(object, "spec")), *one, *taint;
        size_t i, k;

        json_object_del(json_object_get(spec, "pool"), "generation");
        json_array_foreach(json_object_get(spec, "devices"), i, one)
                json_array_foreach(json_object_get(one, "taints"), k, taint)
                        json_object_del(taint, "timeAdded");
        return spec;
}

static json_int_t generation_of(const json_t *object)
{
        json_t *pool = json_object_get(json_object_get(object, "spec"), "pool");

        return json_integer_value(json_object_get(pool, "generation"));
}

// Whether it is what it should be, or what the server made of that before.
static int is_right(const struct slices *slices, const json_t *wanted, const json_t *object)
{
        json_t *there = specification_of(object);
        int right = json_equal(there, wanted) ||
                    (slices->kept && json_equal(slices->sent, wanted) && json_equal(there, slices->kept));

        json_decref(there);
        return right;
}

static void done(struct slices *slices, uint64_t wait_ns)
{
        slices->asking = 0;
        slices->due_ns = wait_ns         ? takt_clock_now() + wait_ns
                         : slices->again ? takt_clock_now() + KUBE_RETRY_MIN_NS
                                         : TAKT_NEVER;
        slices->again = 0;
}

static void succeed(struct slices *slices)
{
        if (slices->unwell)
                fprintf(stderr, "taktd: ResourceSlice %s: published again\n", slices->name);
        slices->unwell = 0;
        slices->wait_ns = KUBE_RETRY_MIN_NS;
        done(slices, 0);
}

static void fail(struct slices *slices, const char *what, int status, const char *error)
{
        uint64_t wait_ns = slices->wait_ns;

        if (!slices->unwell)
                fprintf(stderr, "taktd: ResourceSlice %s: %s: %s%.300s; tried again\n", slices->name, what,
                        status == 403 ? "taktd lacks the right: " : "", error);
        slices->unwell = 1;
        slices->wait_ns = takt_time_min(wait_ns * 2, KUBE_RETRY_MAX_NS);
        done(slices, wait_ns);
}

static int ask(struct slices *slices, const char *verb, const char *path, const json_t *body,
               cluster_done *then)
{
        int error = slices->cluster->ask(slices->cluster->self, verb, path, body, then, slices);

        if (error)
                fail(slices, "cannot ask the API server", 0, strerror(-error));
        return error;
}

// A server of which the feature gate is off keeps a slice without what makes shares of it.
static void compare(struct slices *slices, json_t *object)
{
        json_t *kept = specification_of(object), *first = json_array_get(json_object_get(kept, "devices"), 0),
               *share = json_object_get(json_object_get(first, "capacity"), CLAIM_SHARE);
        int is_same = json_equal(kept, slices->sent),
            has_shares = json_is_true(json_object_get(first, "allowMultipleAllocations")) &&
                         json_object_get(share, "requestPolicy");

        if (!is_same && !slices->different)
                fprintf(stderr, "taktd: ResourceSlice %s: the API server has dropped %s\n", slices->name,
                        has_shares ? "or changed some of it"
                                   : "allowMultipleAllocations or requestPolicy: its feature gate "
                                     "DRAConsumableCapacity is off, and no claim gets a share of a GPU");
        slices->different = !is_same;
        json_decref(slices->kept);
        slices->kept = kept;
}

static void written(void *context, int status, json_t *body, const char *error)
{
        struct slices *slices = context;

        if ((status == 200 || status == 201) && body) {
                compare(slices, body);
                succeed(slices);
        } else if (status == 409) {
                done(slices, KUBE_RETRY_MIN_NS); // somebody was faster: look what is there now
        } else {
                fail(slices, "cannot be published", status, error);
        }
}

static json_t *metadata(const struct slices *slices)
{
        json_t *m = json_pack("{s:s}", "name", slices->name);

        if (slices->owner[0]) // it goes with its node
                json_object_set_new(m, "ownerReferences",
                                    json_pack("[{s:s,s:s,s:s,s:s}]", "apiVersion", "v1", "kind", "Node",
                                              "name", slices->pool->name, "uid", slices->owner));
        return m;
}

// there: what is to be replaced; NULL: nothing.
static void publish(struct slices *slices, json_t *wanted, const json_t *there)
{
        json_t *spec = json_deep_copy(wanted), *m = metadata(slices), *body;
        char path[320];

        json_object_set_new(json_object_get(spec, "pool"), "generation", json_integer(++slices->generation));
        if (there)
                json_object_set(m, "resourceVersion",
                                json_object_get(json_object_get(there, "metadata"), "resourceVersion"));
        body = json_pack("{s:s,s:s,s:o,s:o}", "apiVersion", "resource.k8s.io/v1", "kind", "ResourceSlice",
                         "metadata", m, "spec", spec);
        json_decref(slices->sent);
        slices->sent = json_incref(wanted);
        json_decref(slices->kept);
        slices->kept = NULL;
        snprintf(path, sizeof path, COLLECTION "%s%s", there ? "/" : "", there ? slices->name : "");
        ask(slices, there ? "PUT" : "POST", path, body, written);
        json_decref(body);
}

static void looked(void *context, int status, json_t *body, const char *error)
{
        struct slices *slices = context;
        json_t *wanted;

        if (status != 404 && !(status == 200 && body)) {
                fail(slices, "cannot be looked at", status, error);
                return;
        }
        if (status == 200 && generation_of(body) > slices->generation)
                slices->generation = generation_of(body);
        wanted = specification(slices);
        if (status == 200 && is_right(slices, wanted, body))
                succeed(slices);
        else
                publish(slices, wanted, status == 200 ? body : NULL);
        json_decref(wanted);
}

static void look(struct slices *slices)
{
        char path[320];

        snprintf(path, sizeof path, COLLECTION "/%s", slices->name);
        ask(slices, "GET", path, NULL, looked);
}

static void node_came(void *context, int status, json_t *body, const char *error)
{
        struct slices *slices = context;
        const char *uid = "";

        if (status != 403 && (status != 200 || json_unpack(body, "{s:{s:s}}", "metadata", "uid", &uid) < 0)) {
                fail(slices, "cannot read its node", status, error);
                return;
        }
        if (status == 403 && !slices->no_owner)
                fprintf(stderr, "taktd: may not read its node (nodes: get): the ResourceSlice outlives it\n");
        slices->no_owner = status == 403;
        snprintf(slices->owner, sizeof slices->owner, "%s", uid);
        look(slices);
}

// The node first: it may have been made anew, and what belongs to the one before is swept away.
void slices_tick(struct slices *slices, uint64_t now_ns)
{
        char path[320];

        if (!slices->published || slices->asking || slices->due_ns > now_ns)
                return;
        slices->asking = 1;
        slices->due_ns = TAKT_NEVER;
        snprintf(path, sizeof path, "/api/v1/nodes/%s", slices->pool->name);
        ask(slices, "GET", path, NULL, node_came);
}

uint64_t slices_due(const struct slices *slices)
{
        return slices->published && !slices->asking ? slices->due_ns : TAKT_NEVER;
}

void slices_news(struct slices *slices)
{
        slices->again = slices->asking;
        if (!slices->asking)
                slices->due_ns = takt_time_min(slices->due_ns, takt_clock_now() + KUBE_RETRY_MIN_NS);
}

void slices_publish(struct slices *slices)
{
        slices->published = 1;
        slices_news(slices);
}

void slices_health(struct slices *slices, uint32_t lost)
{
        slices->lost = lost;
        slices_news(slices);
}

void slices_open(struct slices *slices, const struct claim_pool *pool, const struct cluster *cluster)
{
        *slices = (struct slices){
                .pool = pool, .cluster = cluster, .due_ns = TAKT_NEVER, .wait_ns = KUBE_RETRY_MIN_NS};
        snprintf(slices->name, sizeof slices->name, "%.239s-" CLAIM_DRIVER, pool->name);
}

void slices_close(struct slices *slices)
{
        if (!slices->cluster)
                return;
        slices->cluster->forget(slices->cluster->self, slices);
        json_decref(slices->sent);
        json_decref(slices->kept);
        slices->sent = slices->kept = NULL;
}
