#include "kube/life.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"

static const uint8_t moves[4] = {
        [LIFE_DOWN] = 1 << LIFE_DOWN | 1 << LIFE_ASKING,
        [LIFE_ASKING] = 1 << LIFE_DOWN | 1 << LIFE_UP | 1 << LIFE_ENDING,
        [LIFE_UP] = 1 << LIFE_DOWN | 1 << LIFE_ENDING,
        [LIFE_ENDING] = 1 << LIFE_DOWN,
};

static void move(struct life *life, enum life_state state, uint64_t due_ns)
{
        if (!(moves[life->state] >> state & 1))
                abort(); // a transition that was not thought of
        life->state = state;
        life->due_ns = due_ns;
}

static void fail(struct life *life, const char *what, const char *why)
{
        uint64_t wait_ns = life->wait_ns;

        fprintf(stderr, "taktd: %s: %s: %s\n", life->plugin.slots->resource[life->plugin.resource].name, what,
                why);
        life->wait_ns = takt_time_min(wait_ns * 2, KUBE_RETRY_MAX_NS);
        move(life, LIFE_DOWN, takt_clock_now() + wait_ns);
}

static void answered(void *context, const uint8_t *data, size_t size)
{
        (void)context, (void)data, (void)size; // Empty
}

static void registered(void *context, int status, const char *text)
{
        struct life *life = context;

        if (life->state != LIFE_ASKING)
                return;
        if (status != GRPC_OK) {
                fail(life, "the kubelet refused the registration", text);
                return;
        }
        life->wait_ns = KUBE_RETRY_MIN_NS;
        move(life, LIFE_UP, takt_clock_now() + KUBE_RETRY_MAX_NS); // by when it has called back
}

static int listen_anew(struct life *life)
{
        static uint32_t n;
        char name[48];

        snprintf(name, sizeof name, "takt-%lx-%u.sock", takt_clock_now(), n++);
        return server_listen(&life->server, life->folder, name);
}

static int ask(struct life *life)
{
        static const struct rpc_answer answer = {answered, registered};
        uint64_t now_ns = takt_clock_now();
        char path[108];
        uint8_t *bytes;
        size_t size;
        int fd, error;

        if ((size_t)snprintf(path, sizeof path, "%s/kubelet.sock", life->folder) >= sizeof path)
                return -ENAMETOOLONG;
        fd = link_connect(path);
        if (fd < 0)
                return fd;
        error = link_open(&life->asking, life->server.host, fd, rpc_client(), NULL, NULL);
        if (error)
                return error;
        bytes = plugin_registration(&life->plugin, life->server.name, &size);
        error = rpc_ask(life->asking.rpc, "/v1beta1.Registration/Register", bytes, size, now_ns,
                        now_ns + KUBE_CALL_NS, &answer, life, NULL);
        free(bytes);
        link_flush(&life->asking);
        return error;
}

static void begin(struct life *life)
{
        int error = listen_anew(life);

        life->plugin.ended = life->seen = 0;
        move(life, LIFE_ASKING, TAKT_NEVER);
        if (!error && !life->plugin.notified)
                error = ask(life);
        if (error == -ENOENT) // no kubelet: its socket's arrival is news
                move(life, LIFE_DOWN, takt_clock_now() + KUBE_RETRY_MAX_NS);
        else if (error)
                fail(life, "cannot reach the kubelet", strerror(-error));
}

// The stream ends in order, so that the kubelet closes its connection and so has forgotten us before we come
// again.
static void again(struct life *life, uint64_t now_ns)
{
        if (life->state == LIFE_ENDING)
                return;
        if (life->state != LIFE_DOWN && server_n_links(&life->server)) {
                move(life, LIFE_ENDING, now_ns + KUBE_FAREWELL_NS);
                plugin_farewell(&life->plugin);
                server_flush(&life->server);
                return;
        }
        link_close(&life->asking);
        if (life->state != LIFE_DOWN || life->due_ns > now_ns + KUBE_RETRY_MIN_NS)
                move(life, LIFE_DOWN, now_ns + KUBE_RETRY_MIN_NS);
}

// The watcher's word, in the place of Register's answer.
static void notified(struct plugin *plugin, int is_registered, const char *error)
{
        struct life *life = (struct life *)(void *)((char *)plugin - offsetof(struct life, plugin));

        registered(life, is_registered ? GRPC_OK : GRPC_UNKNOWN, error);
}

void life_open(struct life *life, const struct host *host, const char *folder, int is_watched)
{
        server_open(&life->server, host, &plugin_service, &life->plugin);
        life->plugin.endpoint = life->server.path;
        life->plugin.notified = is_watched ? notified : NULL;
        life->folder = folder;
        life->state = LIFE_DOWN;
        life->due_ns = 0;
        life->wait_ns = KUBE_RETRY_MIN_NS;
}

static void close_links(struct life *life)
{
        link_close(&life->asking);
        server_hang_up(&life->server);
}

void life_close(struct life *life)
{
        plugin_farewell(&life->plugin);
        server_farewell(&life->server);
        life->state = LIFE_DOWN;
        close_links(life);
        server_stop(&life->server);
}

void life_news(struct life *life, const char *name, int is_there, uint64_t now_ns)
{
        if (!strcmp(name, "kubelet.sock") ? is_there : !is_there && !strcmp(name, life->server.name)) {
                life->wait_ns = KUBE_RETRY_MIN_NS;
                again(life, now_ns);
        }
}

void life_looked(struct life *life)
{
        plugin_looked(&life->plugin);
        server_flush(&life->server);
}

void life_update(struct life *life)
{
        plugin_update(&life->plugin);
        server_flush(&life->server);
}

static int stream_lost(const struct life *life)
{
        return life->state == LIFE_UP && life->plugin.ended && !life->plugin.watching;
}

uint64_t life_due(const struct life *life)
{
        int is_over = life->state == LIFE_ENDING && !server_n_links(&life->server);
        uint64_t due_ns = stream_lost(life) || is_over ? 0 : life->due_ns;

        due_ns = takt_time_min(due_ns, takt_time_min(plugin_due(&life->plugin), server_due(&life->server)));
        if (link_is_open(&life->asking))
                due_ns = takt_time_min(due_ns, rpc_deadline(life->asking.rpc));
        return due_ns;
}

void life_tick(struct life *life, uint64_t now_ns)
{
        server_expire(&life->server, now_ns);
        link_expire(&life->asking, now_ns);
        if (plugin_due(&life->plugin) <= now_ns) {
                plugin_tick(&life->plugin, now_ns);
                server_flush(&life->server);
        }
        life->seen |= life->plugin.watching != NULL;
        if (life->state != LIFE_ASKING && link_is_open(&life->asking))
                link_close(&life->asking);
        if (stream_lost(life)) {
                again(life, now_ns);
        } else if (life->state == LIFE_UP && life->due_ns <= now_ns) {
                life->due_ns = TAKT_NEVER;
                if (!life->seen)
                        again(life, now_ns);
        } else if (life->state == LIFE_ENDING && (!server_n_links(&life->server) || life->due_ns <= now_ns)) {
                close_links(life);
                move(life, LIFE_DOWN, now_ns + KUBE_RETRY_MIN_NS);
        } else if (life->state == LIFE_DOWN && life->due_ns <= now_ns) {
                close_links(life);
                begin(life);
        }
}
