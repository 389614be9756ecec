#include "kube/secure.h"
#include <arpa/inet.h>
#include <errno.h>
#include <link.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

static void why_tls(const SSL *ssl, char *why, size_t size)
{
        long verified = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
        const char *reason = ERR_reason_error_string(ERR_peek_error());

        if (verified != X509_V_OK)
                snprintf(why, size, "TLS: its certificate: %s", X509_verify_cert_error_string(verified));
        else
                snprintf(why, size, "TLS: %s", reason ? reason : "no reason is known");
        ERR_clear_error();
}

SSL_CTX *secure_trust(const char *ca_file, char *why, size_t size)
{
        SSL_CTX *trust;

        // Not the machine's own OpenSSL settings: what is spoken here is between the API server and us.
        OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
        trust = SSL_CTX_new(TLS_client_method());
        if (!trust)
                return why_tls(NULL, why, size), NULL;
        SSL_CTX_set_min_proto_version(trust, TLS1_2_VERSION);
        SSL_CTX_set_verify(trust, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_session_cache_mode(trust, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_mode(trust, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                        SSL_MODE_RELEASE_BUFFERS);
        // Many servers end the connection without a last word; the length of an answer says if it is whole.
        SSL_CTX_set_options(trust, SSL_OP_IGNORE_UNEXPECTED_EOF);
        if (SSL_CTX_load_verify_file(trust, ca_file) == 1)
                return trust;
        why_tls(NULL, why, size);
        SSL_CTX_free(trust);
        return NULL;
}

void secure_close(struct secure *secure)
{
        if (!secure->ssl)
                return;
        SSL_free(secure->ssl);
        secure->ssl = NULL;
        free(secure->out);
        secure->out = NULL;
        secure->host->services->unwatch(secure->host->node, &secure->watch);
}

static void end(struct secure *secure, const char *why)
{
        char text[160];

        snprintf(text, sizeof text, "%s", why);
        secure_close(secure);
        secure->ended(secure->context, text);
}

static void want(struct secure *secure, uint32_t events)
{
        if (events == secure->asked)
                return;
        secure->asked = events;
        secure->host->services->watch_change(secure->host->node, &secure->watch, events);
}

// What an operation of n wants before it can go on. 0: it may; else the connection has ended.
static int settle(struct secure *secure, int n)
{
        char why[160];
        int error = SSL_get_error(secure->ssl, n), system = errno;

        if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
                return want(secure, EPOLLIN | (error == SSL_ERROR_WANT_WRITE ? EPOLLOUT : 0)), 0;
        if (error == SSL_ERROR_ZERO_RETURN)
                why[0] = 0;
        else if (error == SSL_ERROR_SYSCALL)
                snprintf(why, sizeof why, "%s", system ? strerror(system) : "the connection was cut");
        else
                why_tls(secure->ssl, why, sizeof why);
        ERR_clear_error();
        end(secure, why);
        return -ECONNRESET;
}

static int connected(struct secure *secure)
{
        socklen_t size = sizeof(int);
        int error = 0;

        getsockopt(secure->watch.fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error)
                return end(secure, strerror(error)), -error;
        secure->connected = 1;
        return 0;
}

static int send_some(struct secure *secure)
{
        while (secure->out) {
                int n = SSL_write(secure->ssl, secure->out + secure->sent,
                                  (int)(secure->n_out - secure->sent));

                if (n <= 0)
                        return settle(secure, n);
                secure->sent += (size_t)n;
                if (secure->sent == secure->n_out) {
                        free(secure->out);
                        secure->out = NULL;
                }
        }
        want(secure, EPOLLIN);
        return 0;
}

// Of a flood only so much a turn. A read takes a whole record, so what is left over is the socket's, and
// epoll tells of it again.
static void read_some(struct secure *secure)
{
        static char bytes[16384]; // a record's most
        const SSL *ssl = secure->ssl;

        for (int i = 0; i < 16; i++) {
                int n = SSL_read(secure->ssl, bytes, sizeof bytes);
                int error;

                if (n <= 0) {
                        settle(secure, n);
                        return;
                }
                error = secure->data(secure->context, bytes, (size_t)n);
                if (secure->ssl != ssl) // closed from there
                        return;
                if (error) {
                        end(secure, strerror(-error));
                        return;
                }
        }
}

// What a handshake needs; and what libmicrohttpd is linked with for a TLS of its own, which is not used here:
// once loaded it does nothing any more.
static int is_seldom_used(const char *library)
{
        static const char *const names[] = {"/libcrypto.", "/libssl.",     "/libgnutls.",    "/libp11-kit.",
                                            "/libnettle.", "/libhogweed.", "/libunistring.", "/libgmp."};

        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                if (strstr(library, names[i]))
                        return 1;
        return 0;
}

static int forget_library(struct dl_phdr_info *library, size_t size, void *context)
{
        (void)size, (void)context;
        if (!is_seldom_used(library->dlpi_name))
                return 0;
        for (int i = 0; i < library->dlpi_phnum; i++) {
                const ElfW(Phdr) *part = &library->dlpi_phdr[i];
                uintptr_t from = (library->dlpi_addr + part->p_vaddr) & -(uintptr_t)4096;

                if (part->p_type == PT_LOAD && !(part->p_flags & PF_W))
                        madvise((void *)from, library->dlpi_addr + part->p_vaddr + part->p_memsz - from,
                                MADV_DONTNEED);
        }
        return 0;
}

// 5 MiB of code and tables are the page cache's again and not ours, until the next handshake in some minutes.
// (What is written to stays.)
static void forget_handshake(void)
{
        dl_iterate_phdr(forget_library, NULL);
}

static void ready(struct node *node, struct watch *watch, uint32_t events)
{
        struct secure *secure = (struct secure *)(void *)((char *)watch - offsetof(struct secure, watch));

        (void)node, (void)events;
        if (!secure->ssl)
                return;
        errno = 0;
        if (!secure->connected && connected(secure) < 0)
                return;
        if (!secure->shaken) {
                int n = SSL_connect(secure->ssl);

                if (n != 1) {
                        settle(secure, n);
                        return;
                }
                secure->shaken = 1;
                forget_handshake();
        }
        if (send_some(secure) == 0)
                read_some(secure);
}

// A server that vanished without a word is missed after a minute.
static void keep_alive(int fd)
{
        const int on = 1, idle = 30, interval = 10, count = 3;

        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int expect(SSL *ssl, const char *name)
{
        unsigned char address[16];

        if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
                return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name);
        return SSL_set1_host(ssl, name) && SSL_set_tlsext_host_name(ssl, name);
}

int secure_open(struct secure *secure, const struct host *host, const struct secure_peer *peer,
                int (*data)(void *, const char *, size_t), void (*ended)(void *, const char *), void *context)
{
        int fd = socket(peer->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), error = 0;

        *secure = (struct secure){
                .watch.fd = -1, .host = host, .data = data, .ended = ended, .context = context};
        if (fd < 0)
                return -errno;
        keep_alive(fd);
        secure->ssl = SSL_new(peer->trust);
        if (!secure->ssl || !expect(secure->ssl, peer->name) || !SSL_set_fd(secure->ssl, fd))
                error = -ENOMEM;
        else if (connect(fd, (const struct sockaddr *)&peer->address, peer->address_size) < 0 &&
                 errno != EINPROGRESS)
                error = -errno;
        else
                error = host->services->watch(host->node, &secure->watch, fd, 0, ready);
        if (error) {
                SSL_free(secure->ssl);
                secure->ssl = NULL;
                if (secure->watch.fd < 0)
                        close(fd);
                else
                        host->services->unwatch(host->node, &secure->watch);
                ERR_clear_error();
                return error;
        }
        want(secure, EPOLLIN | EPOLLOUT);
        return 0;
}

void secure_send(struct secure *secure, char *text, size_t size)
{
        free(secure->out);
        secure->out = text;
        secure->n_out = size;
        secure->sent = 0;
        if (secure->shaken)
                want(secure, EPOLLIN | EPOLLOUT); // it goes from the loop
}
