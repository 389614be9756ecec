// A TLS connection to a server, in the loop.
#pragma once
#include <openssl/ssl.h>
#include <sys/socket.h>
#include "kube/link.h"

// Where to, and whom to believe.
struct secure_peer {
        char name[128]; // host or address, as the server's certificate has it
        struct sockaddr_storage address;
        socklen_t address_size;
        SSL_CTX *trust;
};

struct secure {
        struct watch watch;
        const struct host *host;
        SSL *ssl; // NULL: closed
        uint8_t connected, shaken;
        uint32_t asked; // what epoll was told
        char *out;      // what was not sent yet
        size_t n_out, sent;
        // Bytes came. A negative errno ends the connection; so does secure_close, called from here.
        int (*data)(void *context, const char *data, size_t size);
        // It has ended, not by secure_close: why "", where the server ended it in order. The storage may be
        // used anew.
        void (*ended)(void *context, const char *why);
        void *context;
};

// Reads certificates that are to be trusted. Returns NULL with the reason in `why`.
SSL_CTX *secure_trust(const char *ca_file, char *why, size_t size);
// Begins to connect; what is sent meanwhile goes when it can. Callbacks come from the loop only. Returns 0 or
// a negative errno.
int secure_open(struct secure *secure, const struct host *host, const struct secure_peer *peer,
                int (*data)(void *, const char *, size_t), void (*ended)(void *, const char *),
                void *context);
// Takes over the text (malloc's). Only once all that was sent before has gone.
void secure_send(struct secure *secure, char *text, size_t size);
// Ends without a word. Does nothing on one that is closed.
void secure_close(struct secure *secure);
