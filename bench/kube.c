// A node's daemon with all that Kubernetes needs of it: what it holds in memory, and how long the kubelet
// waits for an answer. 8 GPUs of 10 slots, a promise to each slot, and a ninth GPU that is claimed; all slots
// are taken. The client is as lean as the server, and its own cost is in the figures: a call that does
// nothing is measured beside.
//
// The kubelet's plugin watcher is what taktd waits for here, so that no kubelet is needed; the API server is
// the tests' (kube_api.py), which says how long it took over each claim.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"
#include "base/clock.h"
#include "base/histogram.h"
#include "base/time.h"
#include "kube/deviceplugin.pb-c.h"
#include "kube/dra.pb-c.h"
#include "kube/link.h"

#define GPUS 8
#define SLOTS 10
#define CLAIMS 8 // of one more GPU
#define CALLS 1000
#define PERIOD_NS (10 * TAKT_MS) // 100 a second
#define SCRAPES 200
#define DRA "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/"

static char dir[] = "/dev/shm/takt-bench-XXXXXX"; // as /run: no disk
static const char config[] =
        "version: v1\n"
        "sharing:\n"
        "  timeSlicing:\n"
        "    resources:\n"
        "    - {name: takt.dev/gpu, replicas: 10, devices: [0, 1, 2, 3, 4, 5, 6, 7], takt: {slo: 2s, share: "
        "5%, memory: 1Gi}}\n"
        "takt: {kubelet: DIR/kubelet, registration: watcher, metrics: DIR/metrics, cdi: DIR/cdi, node: n1,\n"
        "  door: {dra: [8]}, api: {ca: DIR/tls.crt, token: DIR/token, server: '";

static struct {
        pid_t pid;
        int in, out; // it ends when `in` does
        char url[64];
} api;

static void uuid_of(unsigned gpu, char text[64])
{
        snprintf(text, 64, "GPU-0000000%u-0000-4000-8000-000000000000", gpu);
}

static int write_config(void)
{
        char path[64];
        FILE *file;

        snprintf(path, sizeof path, "%s/config", dir);
        file = fopen(path, "w");
        if (!file)
                return -errno;
        for (const char *at = config; *at;) {
                const char *next = strstr(at, "DIR");

                fprintf(file, "%.*s", next ? (int)(next - at) : (int)strlen(at), at);
                at = next ? next + 3 : at + strlen(at);
                if (next)
                        fputs(dir, file);
        }
        fprintf(file, "%s'}}\n", api.url);
        return fclose(file) ? -errno : 0;
}

// Returns 0 when it listens.
static int start_api(void)
{
        char device[64], claims[8], slots[8];
        int in[2], out[2];
        size_t n = 0;

        uuid_of(GPUS, device);
        memcpy(device, "gpu", 3); // as the scheduler names it
        snprintf(claims, sizeof claims, "%d", CLAIMS);
        snprintf(slots, sizeof slots, "%d", GPUS * SLOTS);
        if (!getenv("TAKT_BENCH_API") || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
                return -1;
        api.pid = fork();
        if (api.pid == 0) {
                dup2(in[0], 0);
                dup2(out[1], 1);
                execlp("python3", "python3", getenv("TAKT_BENCH_API"), dir, device, claims, slots, NULL);
                _exit(127);
        }
        close(in[0]);
        close(out[1]);
        api.in = in[1];
        api.out = out[0];
        while (n < sizeof api.url - 1 && read(api.out, &api.url[n], 1) == 1 && api.url[n] != '\n')
                n++;
        api.url[n] = 0;
        return n ? 0 : -1;
}

static pid_t start(void)
{
        const char *args[8 + 2 * (GPUS + 1)] = {"taktd", "--dir"};
        char run[64], file[64], fd[16], device[GPUS + 1][96], byte, uuid[64];
        int ready[2], n = 2;
        pid_t pid;

        if (!getenv("TAKT_TAKTD") || !mkdtemp(dir) || start_api() || write_config() || pipe(ready) < 0)
                return -1;
        snprintf(run, sizeof run, "%s/kubelet", dir);
        mkdir(run, 0755);
        snprintf(run, sizeof run, "%s/run", dir);
        snprintf(file, sizeof file, "%s/config", dir);
        snprintf(fd, sizeof fd, "%d", ready[1]);
        args[n++] = run;
        args[n++] = "--kube";
        args[n++] = file;
        args[n++] = "--ready";
        args[n++] = fd;
        for (unsigned g = 0; g <= GPUS; g++) {
                uuid_of(g, uuid);
                snprintf(device[g], sizeof device[g], "%s:42949672960", uuid);
                args[n++] = "--device";
                args[n++] = device[g];
        }
        pid = fork();
        if (pid == 0) {
                execv(getenv("TAKT_TAKTD"), (char **)(uintptr_t)args);
                _exit(127);
        }
        close(ready[1]);
        return read(ready[0], &byte, 1) == 1 && byte == '1' ? pid : -1;
}

static void end(pid_t daemon)
{
        char command[96];

        kill(daemon, SIGTERM);
        waitpid(daemon, NULL, 0);
        close(api.in);
        waitpid(api.pid, NULL, 0);
        snprintf(command, sizeof command, "rm -rf '%s'", dir);
        if (system(command))
                fprintf(stderr, "bench kube: %s is left\n", dir);
}

static double rss_mib(pid_t pid)
{
        char path[64], line[128];
        long kib = -1;
        FILE *file;

        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid); // exact: status is by counters that lag
        file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file))
                if (!strncmp(line, "Rss:", 4))
                        kib = atol(line + 4);
        if (file)
                fclose(file);
        return (double)kib / 1024;
}

// A connection to taktd, as the kubelet has one to the plugin and one to the driver.
struct client {
        struct rpc *rpc;
        int fd, done, status;
        uint8_t answer[4096]; // the last one
        size_t size;
};
static struct client plugin, driver;

// Whose socket begins so, in the folder in which the kubelet would find it.
static int client_open(struct client *client, const char *prefix)
{
        char path[512];
        const struct dirent *entry;
        DIR *folder;

        client->fd = -ENOENT;
        snprintf(path, sizeof path, "%s/kubelet/plugins_registry", dir);
        folder = opendir(path);
        while (folder && client->fd < 0 && (entry = readdir(folder))) {
                snprintf(path, sizeof path, "%s/kubelet/plugins_registry/%s", dir, entry->d_name);
                if (!strncmp(entry->d_name, prefix, strlen(prefix)))
                        client->fd = link_connect(path);
        }
        if (folder)
                closedir(folder);
        client->rpc = rpc_client();
        return client->fd < 0 || !client->rpc ? -ENOTCONN : 0;
}

static void on_message(void *context, const uint8_t *data, size_t size)
{
        struct client *client = context;

        client->size = size <= sizeof client->answer ? size : 0;
        memcpy(client->answer, data, client->size);
}

static void on_end(void *context, int status, const char *text)
{
        struct client *client = context;

        client->done = 1;
        client->status = status;
        if (status != GRPC_OK)
                fprintf(stderr, "bench kube: %s\n", text);
}

static int pump(struct client *client)
{
        uint8_t bytes[16384];
        const uint8_t *out;
        ptrdiff_t n;

        while ((n = rpc_transmit(client->rpc, &out)) > 0)
                if (send(client->fd, out, (size_t)n, MSG_NOSIGNAL) != n)
                        return -EIO;
        if (client->done)
                return 0;
        if (poll(&(struct pollfd){.fd = client->fd, .events = POLLIN}, 1, 5000) != 1)
                return -ETIMEDOUT;
        n = recv(client->fd, bytes, sizeof bytes, 0);
        return n <= 0 ? -EIO : rpc_receive(client->rpc, bytes, (size_t)n, takt_clock_now());
}

// One call; how long it took in ns, or a negative errno.
static int64_t call(struct client *client, const char *method, const uint8_t *request, size_t size)
{
        static const struct rpc_answer answer = {on_message, on_end};
        uint64_t start_ns = takt_clock_now();
        int error;

        client->done = 0;
        client->size = 0;
        error = rpc_ask(client->rpc, method, request, size, start_ns, start_ns + 10 * TAKT_S, &answer, client,
                        NULL);
        while (!error && !client->done)
                error = pump(client);
        return error ? error : client->status == GRPC_OK ? (int64_t)(takt_clock_now() - start_ns) : -EPROTO;
}

static size_t allocate_request(unsigned i, uint8_t bytes[256])
{
        char uuid[64], id[96], *ids[] = {id};
        V1beta1__ContainerAllocateRequest container = V1BETA1__CONTAINER_ALLOCATE_REQUEST__INIT;
        V1beta1__ContainerAllocateRequest *containers[] = {&container};
        V1beta1__AllocateRequest request = V1BETA1__ALLOCATE_REQUEST__INIT;

        uuid_of(i % GPUS, uuid);
        snprintf(id, sizeof id, "%s-%u", uuid, i / GPUS % SLOTS);
        container.n_devices_ids = 1;
        container.devices_ids = ids;
        request.n_container_requests = 1;
        request.container_requests = containers;
        return v1beta1__allocate_request__pack(&request, bytes);
}

// One claim, of those that the API server knows.
static size_t claim_request(unsigned i, uint8_t bytes[256])
{
        char uid[48], name[32], space[] = "default";
        Dra__Claim claim = DRA__CLAIM__INIT, *claims[] = {&claim};
        Dra__Request request = DRA__REQUEST__INIT;

        snprintf(uid, sizeof uid, "00000001-0000-4000-8000-%012x", i % CLAIMS);
        snprintf(name, sizeof name, "claim-%u", i % CLAIMS);
        claim.namespace_ = space;
        claim.uid = uid;
        claim.name = name;
        request.n_claims = 1;
        request.claims = claims;
        return dra__request__pack(&request, bytes);
}

static int is_prepared(const struct client *client)
{
        Dra__PrepareResponse *said = dra__prepare_response__unpack(NULL, client->size, client->answer);
        int has_entry = said && said->n_claims == 1 && said->claims[0]->value;
        int ret = has_entry && said->claims[0]->value->n_devices == 1;

        if (has_entry && !ret)
                fprintf(stderr, "bench kube: %s\n", said->claims[0]->value->error);
        if (said)
                dra__prepare_response__free_unpacked(said, NULL);
        return ret;
}

static int64_t nothing(unsigned i)
{
        (void)i;
        return call(&plugin, "/v1beta1.DevicePlugin/GetDevicePluginOptions", NULL, 0);
}

static int64_t allocate(unsigned i)
{
        uint8_t bytes[256];

        return call(&plugin, "/v1beta1.DevicePlugin/Allocate", bytes, allocate_request(i, bytes));
}

// A claim anew, unprepared before; without the time that the API server took over it.
static int64_t prepare(unsigned i)
{
        uint8_t bytes[256];
        size_t size = claim_request(i, bytes);
        uint64_t api_ns;
        int64_t ns = call(&driver, DRA "NodeUnprepareResources", bytes, size);

        if (ns >= 0)
                ns = call(&driver, DRA "NodePrepareResources", bytes, size);
        if (ns < 0)
                return ns;
        if (!is_prepared(&driver) || read(api.out, &api_ns, sizeof api_ns) != sizeof api_ns)
                return -EPROTO;
        return ns > (int64_t)api_ns ? ns - (int64_t)api_ns : 0;
}

// A call every 10 ms, by the clock: whoever is late does not make the next ones late.
static int at_100_a_second(int64_t (*one)(unsigned i), struct takt_histogram *took)
{
        uint64_t due_ns = takt_clock_now();

        takt_histogram_init(took);
        for (unsigned i = 0; i < CALLS; i++, due_ns += PERIOD_NS) {
                struct timespec due = {(time_t)(due_ns / TAKT_S), (long)(due_ns % TAKT_S)};
                int64_t ns;

                clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
                ns = one(i);
                if (ns < 0)
                        return (int)ns;
                takt_histogram_add(took, (uint64_t)ns);
        }
        return 0;
}

// One scrape over the unix socket; bytes of the answer, or a negative errno.
static ptrdiff_t scrape(void)
{
        static const char request[] = "GET /metrics HTTP/1.0\r\n\r\n";
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ptrdiff_t n, size = 0;
        char bytes[65536];

        snprintf(address.sun_path, sizeof address.sun_path, "%s/metrics", dir);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
            send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
                return -EIO;
        while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0)
                size += n;
        close(fd);
        return n < 0 || size < 4096 ? -EIO : size;
}

static int scrapes(struct takt_histogram *took, ptrdiff_t *ret_size)
{
        takt_histogram_init(took);
        for (int i = 0; i < SCRAPES; i++) {
                uint64_t start_ns = takt_clock_now();

                *ret_size = scrape();
                if (*ret_size < 0)
                        return -EIO;
                takt_histogram_add(took, takt_clock_now() - start_ns);
        }
        return 0;
}

static double ms_at(const struct takt_histogram *took, unsigned permille)
{
        return (double)takt_histogram_at(took, permille) / 1e6;
}

// The kubelet has registered the driver: what it offers is published.
static int registered(void)
{
        static const uint8_t yes[] = {0x08, 0x01};

        return call(&driver, "/pluginregistration.Registration/NotifyRegistrationStatus", yes, sizeof yes) <
               0;
}

static int measure(struct bench *bench, pid_t daemon)
{
        static struct takt_histogram empty, allocated, prepared, scraped;
        double fresh = rss_mib(daemon);
        ptrdiff_t size;

        if (client_open(&plugin, "takt-") || client_open(&driver, "gpu.takt.dev-") || registered() ||
            at_100_a_second(nothing, &empty) || at_100_a_second(allocate, &allocated) ||
            at_100_a_second(prepare, &prepared) || scrapes(&scraped, &size))
                return -EIO;
        bench_row(bench, "resident memory, just started", fresh, -1, "MiB");
        bench_row(bench, "resident memory, after all that follows", rss_mib(daemon), 10, "MiB");
        bench_row(bench, "a call that does nothing, p99", ms_at(&empty, 990), -1, "ms");
        bench_row(bench, "Allocate at 100 calls/s, median", ms_at(&allocated, 500), -1, "ms");
        bench_row(bench, "Allocate at 100 calls/s, p99", ms_at(&allocated, 990), 2, "ms");
        bench_row(bench, "NodePrepareResources beyond the API server's, median", ms_at(&prepared, 500), -1,
                  "ms");
        bench_row(bench, "NodePrepareResources beyond the API server's, p99", ms_at(&prepared, 990), 2, "ms");
        bench_row(bench, "scrape with 88 tenants, median", ms_at(&scraped, 500), -1, "ms");
        bench_row(bench, "scrape with 88 tenants, size", (double)size / 1024, -1, "KiB");
        return 0;
}

// What script/bench found out about the image, in MiB; not there: nothing.
static void image(struct bench *bench)
{
        const char *mib = getenv("TAKT_IMAGE_MIB");

        if (mib && *mib)
                bench_row(bench, "container image, unpacked", strtod(mib, NULL), 20, "MiB");
}

// What script/bench found out on a real cluster (kube_pods.py): medians in ms, under Takt and without.
static void pods(struct bench *bench)
{
        const char *said = getenv("TAKT_PODS_MS"), *why = getenv("TAKT_PODS_SKIP");
        double under, without;

        if (said && sscanf(said, "%lf %lf", &under, &without) == 2) {
                bench_row(bench, "pod created to GPU in hand, without Takt, median", without, -1, "ms");
                bench_row(bench, "how much more under Takt, median", under - without, 100, "ms");
        } else {
                bench_skip(bench, "pod created to GPU in hand", why ? why : "script/bench was not asked");
        }
}

int main(int argc, char **argv)
{
        struct bench bench;
        pid_t daemon;
        int error;

        if (bench_init(&bench, "kube", "taktd --kube with 8 GPUs of 10 slots, and a claimed one", argc, argv))
                return 0;
        daemon = start();
        if (daemon < 0)
                return fprintf(stderr, "bench kube: no daemon\n"), 69;
        error = measure(&bench, daemon);
        image(&bench);
        pods(&bench);
        end(daemon);
        if (error)
                return fprintf(stderr, "bench kube: a call failed\n"), 1;
        return bench_end(&bench);
}
