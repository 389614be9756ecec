#include "kube/api_where.h"
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"

int api_where_find(struct api_where *where)
{
        const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
        int is_v6 = host && strchr(host, ':');

        if (!where->server[0]) {
                if (!host || !*host || !port || !*port)
                        return -ENOENT;
                if ((size_t)snprintf(where->server, sizeof where->server, "https://%s%s%s:%s",
                                     is_v6 ? "[" : "", host, is_v6 ? "]" : "", port) >= sizeof where->server)
                        return -ENOENT;
                if (!where->token[0])
                        strcpy(where->token, ACCOUNT "/token");
        }
        if (!where->ca[0])
                strcpy(where->ca, ACCOUNT "/ca.crt");
        return 0;
}

// "https://HOST:PORT" in parts. An IPv6 address stands in brackets.
static int split(const char *server, char *host, size_t size, char port[8])
{
        const char *from = server + 8, *end, *colon;

        if (strncmp(server, "https://", 8))
                return -EINVAL;
        end = *from == '[' ? strchr(from, ']') : strpbrk(from, ":/");
        end = end ? end : from + strlen(from);
        if (*from == '[' && *end++ == ']')
                snprintf(host, size, "%.*s", (int)(end - from - 2), from + 1);
        else
                snprintf(host, size, "%.*s", (int)(end - from), from);
        colon = *end == ':' ? end + 1 : NULL;
        end = colon ? colon + strspn(colon, "0123456789") : end;
        if ((*end && strcmp(end, "/")) || !*host || (colon && (end == colon || end - colon > 5)))
                return -EINVAL;
        snprintf(port, 8, "%.*s", colon ? (int)(end - colon) : 3, colon ? colon : "443");
        return 0;
}

int api_where_peer(const struct api_where *where, struct secure_peer *ret, char *why, size_t size)
{
        const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
        struct addrinfo *found = NULL;
        char port[8], reason[160];
        int error;

        *ret = (struct secure_peer){0};
        if (split(where->server, ret->name, sizeof ret->name, port) < 0)
                return snprintf(why, size, "\"%s\" is no https://HOST:PORT", where->server), -EINVAL;
        error = getaddrinfo(ret->name, port, &hints, &found);
        if (error)
                return snprintf(why, size, "%s: %s", ret->name, gai_strerror(error)), -EHOSTUNREACH;
        memcpy(&ret->address, found->ai_addr, found->ai_addrlen);
        ret->address_size = found->ai_addrlen;
        freeaddrinfo(found);
        ret->trust = secure_trust(where->ca, reason, sizeof reason);
        return ret->trust ? 0 : (snprintf(why, size, "%s: %s", where->ca, reason), -ENOENT);
}

int api_where_token(const struct api_where *where, char *ret, size_t size)
{
        FILE *file = where->token[0] ? fopen(where->token, "re") : NULL;
        size_t n;

        ret[0] = 0;
        if (!file)
                return where->token[0] ? -errno : 0;
        n = fread(ret, 1, size - 1, file);
        fclose(file);
        while (n && strchr("\r\n ", ret[n - 1]))
                n--;
        ret[n] = 0;
        for (size_t i = 0; i < n; i++)
                if (ret[i] <= ' ' || ret[i] > '~')
                        return -EBADMSG;
        return n && n < size - 1 ? (int)n : -EBADMSG;
}
