#include "stage.h"
#include <string.h>
#include <sys/eventfd.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_FDS_MAX (TAKT_N_FDS + 4)

struct stage stage = {.lane = {0, -1}};

static char place[64];
static int door = -1, tenant_page;

struct session *stage_session(void)
{
        return &stage.session[atomic_load(&stage.n_sessions) - 1];
}

uint64_t stage_now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static int page(void **ret)
{
        int fd = memfd_create("stage", MFD_CLOEXEC);

        CHECK(fd >= 0 && ftruncate(fd, TAKT_PAGE_SIZE) == 0);
        *ret = mmap(NULL, TAKT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(*ret != MAP_FAILED);
        return fd;
}

static void welcome(int fd, const int fds[N_FDS_MAX])
{
        size_t size = (TAKT_N_FDS + (size_t)stage.n_more) * sizeof(int);
        union takt_frame frame;
        struct iovec data = {&frame, takt_frame_init(&frame, TAKT_FRAME_WELCOME)};
        char control[CMSG_SPACE(N_FDS_MAX * sizeof(int))] = {0};
        struct msghdr message = {.msg_iov = &data,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = CMSG_SPACE(size)};
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);

        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(head), fds, size);
        memset(frame.welcome.lane, -1, sizeof frame.welcome.lane);
        memcpy(frame.welcome.lane, stage.lane, sizeof stage.lane);
        CHECK(sendmsg(fd, &message, MSG_NOSIGNAL) > 0);
}

static void open_session(int fd)
{
        int n = atomic_load(&stage.n_sessions), fds[N_FDS_MAX], wake[2];
        struct session *s = &stage.session[n];

        CHECK(pipe(wake) == 0);
        for (int i = 0; i < N_FDS_MAX; i++)
                fds[i] = wake[0];
        fds[TAKT_FD_DAEMON_PAGE] = page((void **)&s->daemon);
        fds[TAKT_FD_CLIENT_PAGE] = page((void **)&s->client);
        fds[TAKT_FD_TENANT_PAGE] = tenant_page;
        fds[TAKT_FD_KICK] = s->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        s->wake = wake[1];
        s->socket = fd;
        s->daemon->magic = TAKT_PAGE_DAEMON_MAGIC;
        for (int lane = 0; lane < TAKT_PAGE_LANES; lane++) {
                s->daemon->lane[lane].gate = 1 << 2 | TAKT_GATE_FREE;
                s->client->lane[lane].activity = takt_activity_idle(stage_now());
        }
        for (int lane = 0; lane < 2; lane++)
                s->daemon->lane[lane].memory_quota = stage.quota[lane];
        s->daemon->attention = 0;
        atomic_fetch_add(&stage.n_sessions, 1);
        welcome(fd, fds);
        close(wake[0]);
        close(fds[TAKT_FD_DAEMON_PAGE]);
        close(fds[TAKT_FD_CLIENT_PAGE]);
        atomic_fetch_add(&stage.n_given, 1);
}

static void *serve(void *arg)
{
        int listener = (int)(intptr_t)arg, fd;
        union takt_frame frame;

        while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                atomic_fetch_add(&stage.n_connections, 1);
                if (stage.is_silent)
                        continue;
                CHECK(recv(fd, &frame, sizeof frame, 0) > 0);
                usleep(stage.delay_us);
                open_session(fd);
        }
        return NULL;
}

void stage_return(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        pthread_t thread;

        tenant_page = page((void **)&stage.tenant);
        strcpy(address.sun_path, place);
        unlink(place);
        door = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        CHECK(bind(door, (struct sockaddr *)&address, sizeof address) == 0 && listen(door, 64) == 0);
        pthread_create(&thread, NULL, serve, (void *)(intptr_t)door);
        pthread_detach(thread);
}

void stage_lose(void)
{
        struct session *s = stage_session();

        unlink(place);
        shutdown(door, SHUT_RDWR);
        close(door);
        close(s->socket);
        close(s->wake);
        close(s->kick);
        close(tenant_page);
}

void stage_gate(int lane, enum takt_gate_state state)
{
        struct takt_page_daemon *daemon = stage_session()->daemon;
        uint32_t word = atomic_load(&daemon->lane[lane].gate);

        if (state != TAKT_GATE_FREE)
                atomic_store(&daemon->attention, 1);
        atomic_store(&daemon->lane[lane].gate, ((word >> 2) + 1) << 2 | state);
        if (state == TAKT_GATE_FREE)
                atomic_store(&daemon->attention, 0);
        syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
        syscall(SYS_futex, &daemon->lane[lane].gate, FUTEX_WAKE, 1000, NULL, NULL, 0);
}

void stage_bound(int lane, uint64_t ns)
{
        atomic_store(&stage_session()->daemon->lane[lane].bound_ns, ns);
}

void stage_quota(int lane, uint64_t bytes)
{
        atomic_store(&stage_session()->daemon->lane[lane].memory_quota, bytes);
}

void stage_nudge(void)
{
        uint64_t one = 1;

        CHECK(write(stage_session()->wake, &one, sizeof one) == sizeof one);
}

void *stage_context(int device)
{
        void *context;

        MUST(cuInit, 0);
        MUST(cuDevicePrimaryCtxRetain, &context, device);
        MUST(cuCtxSetCurrent, context);
        return context;
}

static void begin(void)
{
        void *driver;

        snprintf(place, sizeof place, "/tmp/takt-stage-%d", getpid());
        setenv("TAKT_SOCKET", place, 1);
        stage_return();
        stage.library = dlopen("libcuda.so.1", RTLD_NOW);
        driver = dlopen("libcuda-driver.so.1", RTLD_NOW);
        CHECK(stage.library && driver);
        stage.fake = dlsym(driver, "fake_driver");
        CHECK(stage.fake);
}

static int run(const struct test *test)
{
        pid_t child = fork();
        int status;
        char path[64];

        if (child == 0) {
                alarm(60); // a deadlock ends here
                begin();
                test->run();
                fflush(NULL);
                _exit(0);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        snprintf(path, sizeof path, "/tmp/takt-stage-%d", child);
        unlink(path);
        printf("%s %s", status ? "FAILED" : "ok    ", test->name);
        if (status)
                printf(" (%s %d)", WIFSIGNALED(status) ? "signal" : "exit",
                       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        printf("\n");
        fflush(stdout);
        return status != 0;
}

int stage_run(const struct test *tests, size_t n, int argc, char **argv)
{
        int failed = 0;

        for (size_t i = 0; i < n; i++)
                if (argc < 2 || !strcmp(argv[1], tests[i].name))
                        failed += run(&tests[i]);
        return failed > 0;
}
