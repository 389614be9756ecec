// A socket of ours that the kubelet calls at, and the connections that came of it.
#pragma once
#include "kube/limits.h"
#include "kube/link.h"

struct server {
        const struct host *host;
        const struct rpc_service *service; // of each connection
        void *context;                     // of its calls
        char name[64], path[108];          // the socket's, and where it is; "": we do not listen
        struct watch listening;
        struct link links[KUBE_LINKS_MAX];
};

// Prepares; `service` must stay.
void server_open(struct server *server, const struct host *host, const struct rpc_service *service,
                 void *context);
// Listens at FOLDER/NAME, and there only from now on. Returns 0 or a negative errno.
int server_listen(struct server *server, const char *folder, const char *name);
// Nobody new can call, and the socket is removed; connections stay.
void server_stop(struct server *server);
int server_n_links(const struct server *server);
// Sends what there is to send on each.
void server_flush(struct server *server);
// When server_expire is due; TAKT_NEVER: it is not.
uint64_t server_due(const struct server *server);
void server_expire(struct server *server, uint64_t now_ns);
// All connections end in order, as far as that goes without waiting.
void server_farewell(struct server *server);
void server_hang_up(struct server *server);
