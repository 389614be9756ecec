// libtakt: what reaches a daemon, and that the agent is never delayed, signalled or mixed up, whatever the
// daemon does.
//
// The test is the daemon; the agent is a forked child, so each begins without a connection. An agent that
// hangs is ended by its alarm.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "client/takt.h"
#include "wire/request.h"

static char dir[64], path[96];
static int listener = -1;

static struct sockaddr_un address(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        strcpy(address.sun_path, path);
        return address;
}

static void listen_anew(int backlog)
{
        struct sockaddr_un here = address();
        struct timeval patience = {.tv_sec = 20}; // an agent that never comes fails its test, not all of them

        unlink(path);
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        assert_int_equal(bind(listener, (struct sockaddr *)&here, sizeof here), 0);
        assert_int_equal(listen(listener, backlog), 0);
}

static int set_up(void **state)
{
        (void)state;
        strcpy(dir, "/tmp/takt-client-XXXXXX");
        assert_non_null(mkdtemp(dir));
        snprintf(path, sizeof path, "%s/requests", dir);
        setenv("TAKT_REQUESTS", path, 1);
        listen_anew(16);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        close(listener);
        unlink(path);
        rmdir(dir);
        return 0;
}

static pid_t start(int (*agent)(void))
{
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                alarm(20);
                _exit(agent());
        }
        return pid;
}

// The line of the agent that failed, or 0.
static int ended(pid_t pid)
{
        int status = 0;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// In the agent: ends it with a code that says where.
#define MUST(what)                                                                                           \
        do                                                                                                   \
                if (!(what)) {                                                                               \
                        fprintf(stderr, "agent, line %d: %s\n", __LINE__, #what);                            \
                        _exit(1);                                                                            \
                }                                                                                            \
        while (0)

// Everything until the agent closes its end.
static size_t read_all(int fd, char *text, size_t room)
{
        size_t size = 0;
        ssize_t n;

        while (size < room - 1 && (n = read(fd, text + size, room - 1 - size)) > 0)
                size += (size_t)n;
        text[size] = 0;
        return size;
}

static int tells_a_request(void)
{
        errno = 77;
        MUST(takt_request_arrived("42", 0) == 0);
        MUST(takt_request_arrived("43", 1500000) == 0);
        MUST(takt_request_arrived("44", TAKT_DEADLINE_MAX) == 0);
        MUST(takt_request_arrived("45", 1) == 0);
        MUST(takt_request_first_token("42") == 0);
        MUST(takt_request_finished("42") == 0);
        MUST(errno == 77);
        return 0;
}

static void lines_are_as_the_daemon_reads_them(void **state)
{
        char text[1024];
        pid_t pid = start(tells_a_request);
        int fd = accept(listener, NULL, NULL);

        (void)state;
        read_all(fd, text, sizeof text);
        assert_int_equal(ended(pid), 0);
        assert_string_equal(text, "{\"event\":\"arrived\",\"id\":\"42\"}\n"
                                  "{\"event\":\"arrived\",\"id\":\"43\",\"deadline_ms\":1.500000}\n"
                                  "{\"event\":\"arrived\",\"id\":\"44\",\"deadline_ms\":1000000000.000000}\n"
                                  "{\"event\":\"arrived\",\"id\":\"45\",\"deadline_ms\":0.000001}\n"
                                  "{\"event\":\"first_token\",\"id\":\"42\"}\n"
                                  "{\"event\":\"finished\",\"id\":\"42\"}\n");
        for (char *at = text, *end; (end = strchr(at, '\n')); at = end + 1) {
                struct takt_request_line line;

                assert_int_equal(takt_request_parse(at, (size_t)(end - at), &line), 0);
        }
        close(fd);
}

static const char odd_id[] = "a\"b\\c\nd\te\r\b\f\x01\x1f/\xc3\xa9\x7f";

static int tells_an_odd_id(void)
{
        MUST(takt_request_arrived(odd_id, 0) == 0);
        MUST(takt_request_finished(odd_id) == 0);
        return 0;
}

static void odd_ids_are_one_line_and_stay_equal(void **state)
{
        // As JSON.stringify writes it: another server of the tenant may be agents/requests.mjs.
        static const char expected[] = "{\"event\":\"arrived\",\"id\":"
                                       "\"a\\\"b\\\\c\\nd\\te\\r\\b\\f\\u0001\\u001f/\xc3\xa9\x7f\"}\n";
        struct takt_request_line a, b;
        char text[1024];
        pid_t pid = start(tells_an_odd_id);
        int fd = accept(listener, NULL, NULL);
        size_t size = read_all(fd, text, sizeof text), first = strlen(expected);

        (void)state;
        assert_int_equal(ended(pid), 0);
        assert_memory_equal(text, expected, first);
        assert_int_equal(takt_request_parse(text, first - 1, &a), 0);
        assert_int_equal(takt_request_parse(text + first, size - first - 1, &b), 0);
        assert_int_equal(b.event, TAKT_REQUEST_FINISHED);
        assert_true(a.id == b.id);
        close(fd);
}

static int tells_bad_ids(void)
{
        char text[TAKT_REQUEST_LINE_MAX * 2];
        size_t longest = TAKT_REQUEST_LINE_MAX - strlen("{\"event\":\"finished\",\"id\":\"\"}");

        MUST(takt_request_arrived(NULL, 0) == -EINVAL);
        MUST(takt_request_first_token("") == -EINVAL);
        MUST(takt_request_arrived("1", TAKT_DEADLINE_MAX + 1) == -EINVAL);
        memset(text, 'x', sizeof text);
        text[sizeof text - 1] = 0;
        MUST(takt_request_finished(text) == -EMSGSIZE);
        text[longest + 1] = 0;
        MUST(takt_request_finished(text) == -EMSGSIZE);
        text[longest] = 0;
        MUST(takt_request_finished(text) == 0);
        memset(text, 1, 70); // six bytes each
        text[70] = 0;
        MUST(takt_request_arrived(text, TAKT_DEADLINE_MAX) == 0);
        return 0;
}

static void bad_ids_are_refused_and_not_sent(void **state)
{
        struct takt_request_line line;
        char text[4096], *end;
        pid_t pid = start(tells_bad_ids);
        int fd = accept(listener, NULL, NULL);

        (void)state;
        read_all(fd, text, sizeof text);
        assert_int_equal(ended(pid), 0);
        end = strchr(text, '\n');
        assert_int_equal(end - text, TAKT_REQUEST_LINE_MAX);
        assert_int_equal(takt_request_parse(text, (size_t)(end - text), &line), 0);
        assert_int_equal(takt_request_parse(end + 1, strlen(end + 1) - 1, &line), 0);
        close(fd);
}

static int tells_nobody(void)
{
        int lowest = dup(0);

        close(lowest);
        unsetenv("TAKT_REQUESTS");
        MUST(takt_request_arrived("1", 0) == TAKT_UNTOLD);
        MUST(takt_request_finished("1") == TAKT_UNTOLD);
        MUST(dup(0) == lowest);
        return 0;
}

static void without_the_environment_nothing_happens(void **state)
{
        (void)state;
        assert_int_equal(ended(start(tells_nobody)), 0);
        fcntl(listener, F_SETFL, O_NONBLOCK);
        assert_true(accept(listener, NULL, NULL) < 0);
}

static int outlives_its_daemon(void)
{
        struct sockaddr_un here = address();
        uint64_t begin_ns;
        int fd;

        MUST(takt_request_arrived("1", 0) == 0);
        close(accept(listener, NULL, NULL));
        close(listener);
        usleep(1100000);
        begin_ns = takt_clock_now();
        MUST(takt_request_arrived("2", 0) == TAKT_UNTOLD);
        MUST(unlink(path) == 0);
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        MUST(bind(listener, (struct sockaddr *)&here, sizeof here) == 0 && listen(listener, 1) == 0);
        for (int i = 0; i < 1000; i++)
                MUST(takt_request_arrived("3", 0) == TAKT_UNTOLD || takt_clock_now() - begin_ns > 1000000000);
        usleep(1100000);
        MUST(takt_request_arrived("4", 0) == 0);
        fd = accept(listener, NULL, NULL);
        close(fd);
        usleep(1100000);
        MUST(takt_request_arrived("5", 0) == 0); // lost a second ago and back: this very line is told
        return 0;
}

static void daemon_that_goes_is_looked_for_once_a_second(void **state)
{
        pid_t pid = start(outlives_its_daemon);

        (void)state;
        close(listener); // this once the agent is the daemon too
        assert_int_equal(ended(pid), 0);
}

static int fills_the_socket(void)
{
        int fd, n = 0;
        char text[4096];

        MUST(takt_request_arrived("0", 0) == 0);
        fd = accept(listener, NULL, NULL);
        while (takt_request_arrived("1", 0) == 0)
                n++;
        MUST(n > 0);
        for (int i = 0; i < 100; i++)
                MUST(takt_request_arrived("1", 0) == TAKT_UNTOLD);
        for (size_t size = 0; size < 29u * (size_t)(n + 1);) // all that was told, whole lines of 29 bytes
                size += (size_t)read(fd, text, sizeof text);
        MUST(recv(fd, text, 1, MSG_DONTWAIT) < 0);
        MUST(takt_request_finished("1") == 0); // over the same connection
        MUST(recv(fd, text, sizeof text, 0) == 30);
        return 0;
}

static void full_socket_drops_whole_lines(void **state)
{
        (void)state;
        assert_int_equal(ended(start(fills_the_socket)), 0);
}

static int finds_the_backlog_full(void)
{
        struct sockaddr_un here = address();
        int fd;

        do
                fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        while (connect(fd, (struct sockaddr *)&here, sizeof here) == 0);
        MUST(takt_request_arrived("1", 0) == TAKT_UNTOLD);
        return 0;
}

static void daemon_that_does_not_accept_is_not_waited_for(void **state)
{
        (void)state;
        close(listener);
        listen_anew(0);
        assert_int_equal(ended(start(finds_the_backlog_full)), 0);
}

#define LINES_A_THREAD 3000

static void *tell_many(void *thread)
{
        char id[16];

        for (int i = 0; i < LINES_A_THREAD; i++) {
                snprintf(id, sizeof id, "%s%d", (const char *)thread, i);
                while (takt_request_arrived(id, 0) != 0)
                        sched_yield();
        }
        return NULL;
}

static int tells_from_two_threads(void)
{
        pthread_t a, b;

        MUST(!pthread_create(&a, NULL, tell_many, (void *)"a") &&
             !pthread_create(&b, NULL, tell_many, (void *)"b"));
        pthread_join(a, NULL);
        pthread_join(b, NULL);
        return 0;
}

static void threads_share_one_connection_line_by_line(void **state)
{
        static char text[1 << 20];
        int next[2] = {0}, n = 0;
        pid_t pid = start(tells_from_two_threads);
        int fd = accept(listener, NULL, NULL);

        (void)state;
        read_all(fd, text, sizeof text);
        assert_int_equal(ended(pid), 0);
        for (char *at = text, *end; (end = strchr(at, '\n')); at = end + 1, n++) {
                char expected[64], *id = strstr(at, "\"id\":\"") + 6;

                snprintf(expected, sizeof expected, "{\"event\":\"arrived\",\"id\":\"%c%d\"}", *id,
                         next[*id == 'b']++);
                *end = 0;
                assert_string_equal(at, expected);
        }
        assert_int_equal(n, 2 * LINES_A_THREAD);
        close(fd);
}

static atomic_int n_ready; // spun on, so that the two run on within nanoseconds

static void *tell_first(void *id)
{
        atomic_fetch_add(&n_ready, 1);
        while (atomic_load(&n_ready) < 2)
                ;
        return takt_request_arrived(id, 0) == 0 ? NULL : id;
}

static int tells_first_from_two_threads(void)
{
        pthread_t a, b;
        void *failed_a, *failed_b;

        MUST(!pthread_create(&a, NULL, tell_first, (void *)"a") &&
             !pthread_create(&b, NULL, tell_first, (void *)"b"));
        pthread_join(a, &failed_a);
        pthread_join(b, &failed_b);
        MUST(!failed_a && !failed_b);
        return 0;
}

static void threads_that_begin_together_are_both_heard(void **state)
{
        (void)state;
        close(listener);
        listen_anew(300);
        for (int i = 0; i < 200; i++)
                assert_int_equal(ended(start(tells_first_from_two_threads)), 0);
}

static int tells_and_forks(void)
{
        pid_t child;

        MUST(takt_request_arrived("parent", 0) == 0);
        child = fork();
        if (child == 0)
                _exit(takt_request_arrived("child", 0));
        MUST(ended(child) == 0);
        MUST(takt_request_finished("parent") == 0);
        return 0;
}

static void forked_child_has_its_own_connection(void **state)
{
        char text[256];
        pid_t pid = start(tells_and_forks);
        int parent = accept(listener, NULL, NULL), child = accept(listener, NULL, NULL);

        (void)state;
        assert_int_equal(ended(pid), 0);
        read_all(parent, text, sizeof text);
        assert_string_equal(
                text,
                "{\"event\":\"arrived\",\"id\":\"parent\"}\n{\"event\":\"finished\",\"id\":\"parent\"}\n");
        read_all(child, text, sizeof text);
        assert_string_equal(text, "{\"event\":\"arrived\",\"id\":\"child\"}\n");
        close(parent);
        close(child);
}

static void *tell_on(void *stop)
{
        while (!atomic_load((_Atomic int *)stop))
                takt_request_arrived("1", 0);
        return NULL;
}

static int forks_while_it_tells(void)
{
        _Atomic int stop = 0;
        pthread_t thread;

        unsetenv("TAKT_REQUESTS");
        MUST(!pthread_create(&thread, NULL, tell_on, &stop));
        for (int i = 0; i < 300; i++) {
                pid_t child = fork();

                if (child == 0) {
                        alarm(5);
                        _exit(takt_request_arrived("1", 0) == TAKT_UNTOLD ? 0 : 1);
                }
                MUST(ended(child) == 0);
        }
        stop = 1;
        pthread_join(thread, NULL);
        return 0;
}

static void fork_beside_a_telling_thread_does_not_hang(void **state)
{
        (void)state;
        assert_int_equal(ended(start(forks_while_it_tells)), 0);
}

static void *tell_when_cancelled(void *is_cancelled)
{
        while (!atomic_load((_Atomic int *)is_cancelled))
                ;
        takt_request_first_token("1");
        return NULL;
}

// The thread ends at the first call of ours that may end it.
static int tells_from_a_cancelled_thread(void)
{
        _Atomic int is_cancelled = 0;
        pthread_t thread;

        MUST(takt_request_arrived("1", 0) == 0);
        MUST(!pthread_create(&thread, NULL, tell_when_cancelled, &is_cancelled));
        pthread_cancel(thread);
        is_cancelled = 1;
        pthread_join(thread, NULL);
        MUST(takt_request_finished("1") == 0);
        return 0;
}

static void thread_that_is_cancelled_leaves_no_lock_taken(void **state)
{
        (void)state;
        assert_int_equal(ended(start(tells_from_a_cancelled_thread)), 0);
}

static int closes_what_is_not_its_own(void)
{
        int pair[2], ours = dup(0);
        char byte;

        close(ours);
        MUST(takt_request_arrived("1", 0) == 0);
        MUST(fcntl(ours, F_GETFD) & FD_CLOEXEC);
        close(ours);
        MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pair[0] == ours);
        takt_request_arrived("2", 0);
        MUST(recv(pair[1], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
        usleep(1100000);
        MUST(takt_request_arrived("3", 0) == 0);
        return 0;
}

static void descriptor_that_became_another_is_left_alone(void **state)
{
        (void)state;
        assert_int_equal(ended(start(closes_what_is_not_its_own)), 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                CASE(lines_are_as_the_daemon_reads_them),
                CASE(odd_ids_are_one_line_and_stay_equal),
                CASE(bad_ids_are_refused_and_not_sent),
                CASE(without_the_environment_nothing_happens),
                CASE(daemon_that_goes_is_looked_for_once_a_second),
                CASE(full_socket_drops_whole_lines),
                CASE(daemon_that_does_not_accept_is_not_waited_for),
                CASE(threads_share_one_connection_line_by_line),
                CASE(threads_that_begin_together_are_both_heard),
                CASE(forked_child_has_its_own_connection),
                CASE(fork_beside_a_telling_thread_does_not_hang),
                CASE(thread_that_is_cancelled_leaves_no_lock_taken),
                CASE(descriptor_that_became_another_is_left_alone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
