// The names of the driver's entries that the shim has one of its own for.
#pragma once

static const char *const hooked[] = {
#define SUBMIT(name, n, stream) #name,
#define SUBMIT_COPY(name, n, stream) #name,
#define SUBMIT_GRAPH(name, n, stream) #name,
#define SUBMIT_SYNC(name, n, stream) #name,
#define SUBMIT_SOON(name, n, stream) #name,
#define SYNC(name, n, stream) #name,
#define OTHER(name) #name,
#include "shim/cuda/hooks.inc"
};
