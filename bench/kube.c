// A node's daemon with all that Kubernetes needs of it: what it holds in memory, and how long the kubelet
// waits for an answer. 8 GPUs of 10 slots, a promise to each slot. The client is as lean as the server, and
// its own cost is in the figures: a call that does nothing is measured beside.
//
// The kubelet's plugin watcher is what taktd waits for here, so that no kubelet is needed.
#include <dirent.h>
#include <errno.h>
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
#include "kube/link.h"

#define GPUS 8
#define SLOTS 10
#define HELD 7 // of a GPU's slots: there are 64 seats
#define CALLS 1000
#define PERIOD_NS (10 * TAKT_MS) // 100 a second
#define SCRAPES 200

static char dir[] = "/dev/shm/takt-bench-XXXXXX"; // as /run: no disk
static const char config[] =
        "version: v1\n"
        "sharing:\n"
        "  timeSlicing:\n"
        "    resources:\n"
        "    - {name: takt.dev/gpu, replicas: 10, takt: {slo: 2s, share: 5%, memory: 1Gi}}\n"
        "takt: {kubelet: DIR/kubelet, registration: watcher, metrics: DIR/metrics}\n";

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
        return fclose(file) ? -errno : 0;
}

static pid_t start(void)
{
        const char *args[8 + 2 * GPUS] = {"taktd", "--dir"};
        char run[64], file[64], fd[16], device[GPUS][96], byte, uuid[64];
        int ready[2], n = 2;
        pid_t pid;

        if (!getenv("TAKT_TAKTD") || !mkdtemp(dir) || write_config() || pipe(ready) < 0)
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
        for (unsigned g = 0; g < GPUS; g++) {
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
        snprintf(command, sizeof command, "rm -rf '%s'", dir);
        if (system(command))
                fprintf(stderr, "bench kube: %s is left\n", dir);
}

static double rss_mib(pid_t pid)
{
        char path[64], line[128];
        long kib = -1;
        FILE *file;

        snprintf(path, sizeof path, "/proc/%d/status", pid);
        file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file))
                if (!strncmp(line, "VmRSS:", 6))
                        kib = atol(line + 6);
        if (file)
                fclose(file);
        return (double)kib / 1024;
}

// The plugin's socket, in the folder in which the kubelet would find it.
static int plugin_connect(void)
{
        char path[512];
        const struct dirent *entry;
        DIR *folder;
        int fd = -ENOENT;

        snprintf(path, sizeof path, "%s/kubelet/plugins_registry", dir);
        folder = opendir(path);
        while (folder && fd < 0 && (entry = readdir(folder))) {
                snprintf(path, sizeof path, "%s/kubelet/plugins_registry/%s", dir, entry->d_name);
                fd = link_connect(path);
        }
        if (folder)
                closedir(folder);
        return fd;
}

static struct client {
        struct rpc *rpc;
        int fd, done, status;
} client;

static void on_message(void *context, const uint8_t *data, size_t size)
{
        (void)context, (void)data, (void)size;
}

static void on_end(void *context, int status, const char *text)
{
        (void)context;
        client.done = 1;
        client.status = status;
        if (status != GRPC_OK)
                fprintf(stderr, "bench kube: %s\n", text);
}

static int pump(void)
{
        uint8_t bytes[16384];
        const uint8_t *out;
        ptrdiff_t n;

        while ((n = rpc_transmit(client.rpc, &out)) > 0)
                if (send(client.fd, out, (size_t)n, MSG_NOSIGNAL) != n)
                        return -EIO;
        if (client.done)
                return 0;
        if (poll(&(struct pollfd){.fd = client.fd, .events = POLLIN}, 1, 5000) != 1)
                return -ETIMEDOUT;
        n = recv(client.fd, bytes, sizeof bytes, 0);
        return n <= 0 ? -EIO : rpc_receive(client.rpc, bytes, (size_t)n, takt_clock_now());
}

// One call; how long it took in ns, or a negative errno.
static int64_t call(const char *method, const uint8_t *request, size_t size)
{
        static const struct rpc_answer answer = {on_message, on_end};
        uint64_t start_ns = takt_clock_now();
        int error;

        client.done = 0;
        error = rpc_ask(client.rpc, method, request, size, start_ns, start_ns + 10 * TAKT_S, &answer, NULL,
                        NULL);
        while (!error && !client.done)
                error = pump();
        return error ? error : client.status == GRPC_OK ? (int64_t)(takt_clock_now() - start_ns) : -EPROTO;
}

static size_t allocate_request(unsigned i, uint8_t bytes[256])
{
        char uuid[64], id[96], *ids[] = {id};
        V1beta1__ContainerAllocateRequest container = V1BETA1__CONTAINER_ALLOCATE_REQUEST__INIT;
        V1beta1__ContainerAllocateRequest *containers[] = {&container};
        V1beta1__AllocateRequest request = V1BETA1__ALLOCATE_REQUEST__INIT;

        uuid_of(i % GPUS, uuid);
        snprintf(id, sizeof id, "%s-%u", uuid, i / GPUS % HELD);
        container.n_devices_ids = 1;
        container.devices_ids = ids;
        request.n_container_requests = 1;
        request.container_requests = containers;
        return v1beta1__allocate_request__pack(&request, bytes);
}

// A call every 10 ms, by the clock: whoever is late does not make the next ones late.
static int at_100_a_second(int allocate, struct takt_histogram *took)
{
        uint64_t due_ns = takt_clock_now();

        takt_histogram_init(took);
        for (unsigned i = 0; i < CALLS; i++, due_ns += PERIOD_NS) {
                struct timespec due = {(time_t)(due_ns / TAKT_S), (long)(due_ns % TAKT_S)};
                uint8_t bytes[256];
                int64_t ns;

                clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
                ns = allocate ? call("/v1beta1.DevicePlugin/Allocate", bytes, allocate_request(i, bytes))
                              : call("/v1beta1.DevicePlugin/GetDevicePluginOptions", bytes, 0);
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

static int measure(struct bench *bench, pid_t daemon)
{
        static struct takt_histogram nothing, allocate, scraped;
        double fresh = rss_mib(daemon);
        ptrdiff_t size;

        client.fd = plugin_connect();
        client.rpc = rpc_client();
        if (client.fd < 0 || !client.rpc || at_100_a_second(0, &nothing) || at_100_a_second(1, &allocate) ||
            scrapes(&scraped, &size))
                return -EIO;
        bench_row(bench, "resident memory, just started", fresh, -1, "MiB");
        bench_row(bench, "resident memory, after Allocate and scrapes", rss_mib(daemon), 10, "MiB");
        bench_row(bench, "a call that does nothing, p99", ms_at(&nothing, 990), -1, "ms");
        bench_row(bench, "Allocate at 100 calls/s, median", ms_at(&allocate, 500), -1, "ms");
        bench_row(bench, "Allocate at 100 calls/s, p99", ms_at(&allocate, 990), 2, "ms");
        bench_row(bench, "scrape with 56 tenants, median", ms_at(&scraped, 500), -1, "ms");
        bench_row(bench, "scrape with 56 tenants, size", (double)size / 1024, -1, "KiB");
        return 0;
}

// What script/bench found out about the image, in MiB; not there: nothing.
static void image(struct bench *bench)
{
        const char *mib = getenv("TAKT_IMAGE_MIB");

        if (mib && *mib)
                bench_row(bench, "container image, unpacked", strtod(mib, NULL), 20, "MiB");
}

int main(int argc, char **argv)
{
        struct bench bench;
        pid_t daemon;
        int error;

        if (bench_init(&bench, "kube", "taktd --kube with 8 GPUs of 10 slots", argc, argv))
                return 0;
        daemon = start();
        if (daemon < 0)
                return fprintf(stderr, "bench kube: no daemon\n"), 69;
        error = measure(&bench, daemon);
        image(&bench);
        end(daemon);
        if (error)
                return fprintf(stderr, "bench kube: a call failed\n"), 1;
        return bench_end(&bench);
}
