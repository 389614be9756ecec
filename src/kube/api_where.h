// Where the API server is, and who we are to it.
#pragma once
#include "kube/secure.h"

struct api_where {
        char server[128]; // https://HOST[:PORT]; "": as a pod of the cluster finds it
        char ca[128];     // file of the certificates to be trusted
        char token[128];  // file of the bearer token; "": none is sent
};

// Fills in what is not said from the environment and the folder that each pod has of its service account.
// Returns 0; or -ENOENT: neither is there, and nothing was said.
int api_where_find(struct api_where *where);
// Looks the server up (a host's name may block; an address does not) and reads its certificates. Returns 0,
// or a negative errno with the reason in `why`.
int api_where_peer(const struct api_where *where, struct secure_peer *ret, char *why, size_t size);
// Reads the token, as it is replaced from time to time. Returns its length (0: none is sent), or a negative
// errno: -EBADMSG where it is no token.
int api_where_token(const struct api_where *where, char *ret, size_t size);
